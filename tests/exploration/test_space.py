import numpy as np
import pytest

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.exploration.space import LatentSpace, in_turn, means_of
from simulacra.models.vae import VAE, VAEConfig
from simulacra.training.config import TrainingConfig

DATA = fabricate_images(n=600, size=8, channels=1, n_classes=3, seed=0)


@pytest.fixture(scope="module", params=[True, False], ids=["conditional", "unconditional"])
def model(request: pytest.FixtureRequest) -> VAE:
    model = VAE(VAEConfig(width=4, latent_dim=3, conditional=request.param))
    model.fit(DATA.take(range(64)), training=TrainingConfig(steps=20, batch_size=32))
    return model


def test_pieces_give_what_the_whole_gives(model: VAE) -> None:
    space = LatentSpace(model, DATA.take(range(64)), DATA)
    assert space.held_out.codes == pytest.approx(model.encode(DATA), abs=1e-5)
    codes = np.broadcast_to(space.held_out.codes[:, None], (600, 2, 3))
    groups = np.repeat(space.held_out.groups[:, None], 2, axis=1)
    images = space.decode(codes, groups)
    whole = model.decode(model.encode(DATA), condition=DATA.labels if model.conditional else None).images
    assert images.shape == (600, 2, 1, 8, 8)
    assert np.abs(images[:, 1].astype(int) - whole).max() <= 1


def test_codes_are_compared_within_their_class_where_the_model_is_told_it(model: VAE) -> None:
    space = LatentSpace(model, DATA.take(range(300)), DATA.take(range(300, 600)))
    own = space.centred(space.learnt)
    for group in range(space.n_groups):
        assert own[space.learnt.groups == group].mean(axis=0) == pytest.approx(0, abs=1e-6)
    values = space.measured(space.learnt, lambda images: images.mean(axis=(1, 2, 3)))
    for group in range(space.n_groups):
        assert values[space.learnt.groups == group].mean() == pytest.approx(0, abs=1e-6)
    assert space.n_groups == (3 if model.conditional else 1)
    assert len(space.class_means) == 3


def test_a_decoder_that_does_not_heed_the_class_has_codes_that_tell_it(
    model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LatentSpace(model, DATA, DATA).conditional == model.conditional
    deaf = model.decode(np.zeros((1, 3), np.float32), condition=0 if model.conditional else None).images
    monkeypatch.setattr(type(model), "decode", lambda self, z, condition: ImageSet(np.repeat(deaf, len(z), axis=0)))
    space = LatentSpace(model, DATA, DATA)
    assert not space.conditional and space.n_groups == 1 and not space.held_out.groups.any()


def test_codes_that_are_not_finite_are_refused(model: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(model), "encode", lambda self, data: np.full((len(data), 3), np.nan, np.float32))
    with pytest.raises(SimulacraError, match="codes that are not finite"):
        LatentSpace(model, DATA, DATA)


def test_images_without_classes_form_one_group() -> None:
    plain = ImageSet(DATA.images[:40])
    model = VAE(VAEConfig(width=4, latent_dim=2))
    model.fit(plain, training=TrainingConfig(steps=2, batch_size=32))
    space = LatentSpace(model, plain, plain)
    assert space.n_classes == space.n_groups == 1 and not space.held_out.classes.any()


def test_classes_take_turns() -> None:
    assert in_turn(np.array([2, 0, 0, 0, 1, 2]), 5).tolist() == [1, 4, 0, 2, 5]
    assert in_turn(np.array([1, 0]), 5).tolist() == [1, 0]


def test_a_group_without_members_has_the_mean_of_all() -> None:
    means = means_of(np.array([1.0, 3.0, 8.0]), np.array([0, 0, 2]), 3)
    assert means.tolist() == [2, 4, 8]
