from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from simulacra.data.captions import Captions
from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.diffusion import elbo
from simulacra.diffusion.film import Film
from simulacra.diffusion.schedules import Level, noised
from simulacra.errors import SimulacraError
from simulacra.models.base import Prompt
from simulacra.models.diffusion import AUTOENCODER_FOLDER, Diffusion, DiffusionConfig, DiffusionNetwork
from simulacra.models.vae import VAEConfig
from simulacra.training import checkpoint
from simulacra.training.batches import Batch, to_float
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise
from simulacra.training.seeding import seeded

DATA = fabricate_images(n=120, size=8, channels=1, n_classes=3, seed=0)
SMALL = {"width": 8, "heads": 2, "timesteps": 50, "sampler_steps": 6, "autoencoder_steps": 30, "mlp_width": 32}
LATENT = SMALL | {"space": "latent", "autoencoder": VAEConfig(conditional=False, width=8, latent_dim=4)}
BUDGET = TrainingConfig(steps=12, batch_size=32, ema_decay=0.9)
FORMULATIONS = ["ddpm", "flow_matching", "edm"]
SAMPLERS = ["ancestral", "ddim", "euler", "heun", "midpoint", "dpm_solver", "sde_dpm_solver"]


def fitted(data: ImageSet = DATA, training: TrainingConfig = BUDGET, **config: Any) -> Diffusion:
    model = Diffusion(DiffusionConfig.model_validate(SMALL | config))
    model.fit(data, training=training, seed=0)
    return model


def dark_and_bright() -> ImageSet:
    """Nothing but the class tells how bright an image is."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = np.where(labels == 1, 180, 40)[:, None, None, None] + rng.integers(0, 30, (200, 1, 4, 4))
    return ImageSet(images.astype(np.uint8), labels, ("dark", "bright"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"guidance": 2.0, "unconditional_share": 0.0}, "set unconditional_share above 0"),
        ({"space": "latent", "autoencoder": {"conditional": True}}, r"autoencoder\.conditional must be false"),
        ({"width": 10, "heads": 3}, "must divide"),
        ({"elbo_evaluations": 3}, "multiple of 2"),
    ],
)
def test_contradictions_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DiffusionConfig.model_validate(wrong)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_class_is_asked_for_and_had(formulation: str) -> None:
    training = TrainingConfig(steps=150, learning_rate=5e-3, batch_size=50)
    model = fitted(dark_and_bright(), training, formulation=formulation, patch=1, width=16, sampler_steps=12)
    for label, brightness in (("dark", 55), ("bright", 195)):
        drawn = model.sample(60, condition=label, seed=0).images.mean(axis=(1, 2, 3))
        assert (np.abs(drawn - brightness) < 50).mean() > 0.95, drawn


@pytest.fixture(scope="module", params=FORMULATIONS)
def of_formulation(request: pytest.FixtureRequest) -> Diffusion:
    return fitted(formulation=request.param)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_goes_with_every_formulation(of_formulation: Diffusion, sampler: str) -> None:
    before = of_formulation.config
    of_formulation.config = before.model_copy(update={"sampler": sampler, "eta": 0.5})
    first, again, other = (of_formulation.sample(4, condition=1, seed=seed) for seed in (0, 0, 1))
    of_formulation.config = before
    assert first.images.shape == (4, 1, 8, 8) and first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_a_film_of_a_sample_shows_every_step_and_ends_with_it() -> None:
    model = fitted()
    noise, y = Noise(5), torch.tensor([0, 2])
    with torch.inference_mode():
        levels = model.levels()
        x = levels[0].sigma * noise.normal(2, 1, 8, 8)
        states = list(model.trajectory(model.denoiser(y), x, levels, normal=noise.normal))
    assert len(states) == SMALL["sampler_steps"]
    assert all(state.x0.shape == (2, 1, 8, 8) and state.x0.abs().max() <= 1 for state in states)
    torch.testing.assert_close(states[-1].x, states[-1].x0)


def test_a_trajectory_may_begin_at_any_image_and_level() -> None:
    model = fitted()
    x0, levels = to_float(torch.from_numpy(DATA.images[:5])), model.levels(10)
    denoise = model.denoiser(torch.from_numpy(DATA.labels[:5]))
    with torch.inference_mode():
        moved = []
        for start in (9, 5, 10):
            x = noised(x0, levels[start], Noise(0).normal(*x0.shape))
            end = [x, *(state.x for state in model.trajectory(denoise, x, levels[start:], normal=Noise(1).normal))][-1]
            moved.append(float((end - x0).square().mean()))
    assert moved[2] == 0 < moved[0] < moved[1], "no strength changes nothing, more strength changes more"


def test_guidance_1_is_no_guidance_and_more_is_more_typical() -> None:
    training = TrainingConfig(steps=100, learning_rate=5e-3, batch_size=50)
    model = fitted(dark_and_bright(), training, patch=1, width=16, unconditional_share=0.3)
    x, level = torch.zeros(2, 1, 4, 4), model.levels(4)[1]
    with torch.inference_mode():
        y = torch.tensor([0, 1])
        plain, null, more = (model.denoiser(y, guidance=scale)(x, level) for scale in (1.0, 0.0, 2.0))
        torch.testing.assert_close(plain, model.network.denoiser(model.network.classes(y))(x, level).clamp(-1, 1))
    torch.testing.assert_close(null[0], null[1])
    dark, bright = (float(more[i].mean()) for i in (0, 1))
    assert dark <= float(plain[0].mean()) + 1e-3 and bright >= float(plain[1].mean()) - 1e-3 and dark < bright


def test_while_training_some_images_have_the_null_class_and_while_validating_none() -> None:
    with seeded(0):
        network = DiffusionNetwork(DiffusionConfig(**SMALL, unconditional_share=0.5), (1, 8, 8), n_classes=3)
    batch = Batch(torch.zeros(400, 1, 8, 8), torch.zeros(400, dtype=torch.long), 0, Noise(0))
    null = network.classes(network.classes.null(1))
    share = float((network._condition(batch) == null).all(1).float().mean())
    assert share == pytest.approx(0.5, abs=0.1)
    network.eval()
    assert not (network._condition(batch) == null).all(1).any()


def test_optimal_transport_changes_the_noise_of_flow_matching_only() -> None:
    x, y = to_float(torch.from_numpy(DATA.images[:30])), torch.from_numpy(DATA.labels[:30])
    losses: dict[str, list[float]] = {}
    for formulation in FORMULATIONS:
        for transport in (True, False):
            config = DiffusionConfig(**SMALL, formulation=formulation, optimal_transport=transport)
            with seeded(0):
                network = DiffusionNetwork(config, (1, 8, 8), n_classes=3)
            found = network.loss(Batch(x, y, 0, Noise(0)))["loss"]
            losses.setdefault(formulation, []).append(found.item())
    # The network still answers 0, so that the loss is the target's mean square: velocities that are shorter.
    assert losses["flow_matching"][0] < losses["flow_matching"][1]
    assert losses["ddpm"][0] == losses["ddpm"][1] and losses["edm"][0] == losses["edm"][1]


@pytest.mark.parametrize("conditional", [True, False])
def test_the_bound_does_not_depend_on_how_it_is_estimated(conditional: bool) -> None:
    model = fitted(training=TrainingConfig(steps=60, learning_rate=5e-3), conditional=conditional, timesteps=20)
    images = np.repeat(DATA.images[:2], 250, axis=0)
    few, many = [], []
    for number, found in ((2, few), (40, many)):
        model.config = model.config.model_copy(update={"elbo_evaluations": number})
        nats = model.elbo(images).reshape(2, 250)
        found += [nats.mean(axis=1), nats.std(axis=1) / 250**0.5]
    gap = few[0] - many[0]
    # Of few times less is known of the class, which costs up to a nat or so and never gains.
    assert (gap < 4 * few[1]).all() and (gap > -4 * few[1] - 1.5 * conditional).all(), (few, many)
    assert (few[1] > many[1]).all()


def test_the_bound_sums_all_terms_of_the_paper() -> None:
    """Every L_{t−1} written out at every t, from the network's own answers, without classes."""
    model = fitted(training=TrainingConfig(steps=40, learning_rate=5e-3), conditional=False, timesteps=12)
    images = np.repeat(DATA.images[:1], 2000, axis=0)
    x0, process = to_float(torch.from_numpy(images)), model.network.formulation
    denoise, normal = model.denoiser(None), Noise(9).normal
    total = -elbo.prior_nats(x0, process.at(torch.tensor(12)))
    with torch.inference_mode():
        for t in range(12, 0, -1):
            now, then = (process.at(torch.tensor(s)) for s in (t, t - 1))
            estimate = denoise(noised(x0, now, normal(*x0.shape)), now)
            if t > 1:
                total = total - elbo.transition_nats(x0, estimate, now, then)
            else:
                total = total + elbo.decoder_log_prob(x0, estimate, model.network.decoder_sigma)
    nats = model.elbo(images)
    error = 4 * (nats.std() / 2000**0.5 + float(total.std()) / 2000**0.5)
    assert nats.mean() == pytest.approx(float(total.mean()), abs=error + 0.005 * abs(nats.mean()))


def test_more_estimates_are_averaged_as_they_are() -> None:
    model = fitted(conditional=False)
    images = DATA.images[:6]
    found = model.joint(images, seed=4, importance_samples=3)
    singles = [model._bound_of(images, [Noise(4, draw)]) for draw in range(3)]
    assert found == pytest.approx(np.mean(singles, axis=0))


def test_classes_are_told_by_bayes_rule() -> None:
    data = dark_and_bright()
    model = fitted(data, TrainingConfig(steps=100, learning_rate=5e-3, batch_size=50), patch=1, width=16)
    joint = model.joint(data.images)
    posterior = joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)
    assert np.exp(posterior).sum(axis=1) == pytest.approx(1)
    assert (posterior.argmax(axis=1) == data.labels).mean() > 0.95


def test_the_decoder_is_as_wide_as_the_network_is_wrong() -> None:
    levels = np.random.default_rng(0).integers(60, 190, (60, 1, 8, 8))
    data = ImageSet(levels.astype(np.uint8), DATA.labels[:60], DATA.class_names)
    model = fitted(data, timesteps=1000)

    def wrong_by(deviation: float):
        noise = Noise(1)
        images = to_float(torch.from_numpy(data.images))

        def denoise(x: Tensor, level: Level) -> Tensor:
            return images + deviation * noise.normal(*images.shape)

        return denoise

    for deviation in (0.02, 0.1):
        model.denoiser = lambda y, guidance, deviation=deviation: wrong_by(deviation)  # type: ignore[method-assign]
        assert model._decoder_sigma(data) == pytest.approx(deviation, rel=0.15)


@pytest.mark.parametrize("config", [{"formulation": "flow_matching"}, {"formulation": "edm"}, LATENT], ids=str)
def test_where_there_is_no_likelihood_none_is_claimed(config: dict[str, Any]) -> None:
    model = Diffusion(DiffusionConfig.model_validate(SMALL | config))
    assert model.likelihood is None
    with pytest.raises(SimulacraError, match="formulation: ddpm"):
        model.elbo(DATA.images)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_codes_are_diffused_by_configuration(formulation: str, tmp_path: Path) -> None:
    model = Diffusion(DiffusionConfig.model_validate(LATENT | {"formulation": formulation}))
    history = model.fit(DATA, validation=DATA, training=BUDGET, seed=0, checkpoints=tmp_path)
    codes = model._codes(DATA)
    torch.testing.assert_close(codes.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(codes.std(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    samples = model.sample(6, condition=2, seed=0)
    assert samples.images.shape == (6, 1, 8, 8) and samples.labels.tolist() == [2] * 6
    assert history.facts["steps"] == 12 and not checkpoint.exist(tmp_path / AUTOENCODER_FOLDER)
    curves = history.frame().groupby("name")["step"].max()
    assert curves["loss"] == 12 and curves["autoencoder_loss"] == 30
    kept = tmp_path / "model"
    kept.mkdir()
    model.save(kept)
    loaded = Diffusion.load(kept)
    assert loaded.sample(6, seed=3).fingerprint() == model.sample(6, seed=3).fingerprint()
    assert loaded.n_parameters() == model.n_parameters() > loaded.autoencoder.n_parameters() > 0


def test_diffused_codes_decode_to_what_the_autoencoder_can_show() -> None:
    """Of a perfect code diffusion the samples are the autoencoder's reconstructions: here, dark or bright ones."""
    config = LATENT | {"autoencoder_steps": 150, "sampler_steps": 12}
    training = TrainingConfig(steps=300, learning_rate=5e-3, batch_size=50, ema_decay=0.9)
    model = fitted(dark_and_bright(), training, **config)
    for label, brightness in (("dark", 55), ("bright", 195)):
        drawn = model.sample(60, condition=label, seed=0).images.mean(axis=(1, 2, 3))
        assert (np.abs(drawn - brightness) < 50).mean() > 0.9, drawn


@pytest.mark.parametrize("during", ["loss", "autoencoder_loss"])
def test_a_killed_latent_training_goes_on_where_it_was(during: str, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(step: int, split: str, values: Mapping[str, float]) -> None:
        if step == 8 and during in values:
            raise Killed

    training = BUDGET.model_copy(update={"checkpoint_steps": 4, "log_every": 1})
    config = DiffusionConfig.model_validate(LATENT)
    with pytest.raises(Killed):
        Diffusion(config).fit(DATA, training=training, seed=0, checkpoints=tmp_path, callbacks=[kill])
    assert checkpoint.exist(tmp_path / AUTOENCODER_FOLDER) and checkpoint.exist(tmp_path) == (during == "loss")
    resumed, whole = Diffusion(config), Diffusion(config)
    resumed.fit(DATA, training=training, seed=0, checkpoints=tmp_path)
    whole.fit(DATA, training=training, seed=0)
    assert resumed.fingerprint() == whole.fingerprint()


def test_images_without_classes_are_learnt_without() -> None:
    model = fitted(ImageSet(DATA.images), guidance=3.0)
    assert model.sample(3, seed=0).labels is None and model.network.classes is None


def test_training_brings_samples_nearer_to_the_data() -> None:
    def distance(model: Diffusion) -> float:
        drawn = model.sample(200, seed=0).images.reshape(200, -1) / 255.0
        real = DATA.images.reshape(len(DATA), -1) / 255.0
        return float(np.abs(drawn.mean(0) - real.mean(0)).mean() + np.abs(drawn.std(0) - real.std(0)).mean())

    training = TrainingConfig(steps=200, learning_rate=5e-3, ema_decay=0.95)
    assert distance(fitted(training=training, width=16, patch=1)) < 0.5 * distance(fitted())


@pytest.mark.parametrize("config", [{}, LATENT, {"formulation": "edm"}], ids=["pixel", "latent", "edm"])
def test_a_film_changes_no_sample_and_ends_with_them(config: dict[str, Any]) -> None:
    model = fitted(**config)
    for sampler in SAMPLERS:
        asked = model.asked({"sampler": sampler, "steps": 5})
        film = Film(rows=4, columns=10)
        drawn = asked.sample(6, condition=1, seed=2, film=film)
        assert drawn.fingerprint() == asked.sample(6, condition=1, seed=2).fingerprint()
        assert film.steps == [0, 1, 2, 3, 4, 5]
        assert film.states[0].shape == (4, 1, 8, 8) and (film.states[-1] == drawn.images[:4]).all()


def dim_and_bright_bars(n: int = 240) -> ImageSet:
    """Bars of any brightness, upright ones of one class and flat ones of the other."""
    rng = np.random.default_rng(0)
    labels, level = np.arange(n) % 2, rng.uniform(60, 255, (n, 1, 1, 1))
    away = np.abs(np.arange(6) - 2.5)
    flat = np.outer(away < 1, away < 3)
    shapes = np.where(labels[:, None, None] == 1, flat, flat.T)[:, None]
    return ImageSet(np.rint(level * shapes).astype(np.uint8), labels, ("bar", "dash"))


@pytest.fixture(scope="module")
def of_bars() -> Diffusion:
    training = TrainingConfig(steps=500, learning_rate=5e-3, batch_size=50, ema_decay=0.95)
    return fitted(dim_and_bright_bars(), training, patch=1, width=16, sampler_steps=8)


def test_the_words_of_a_prompt_change_what_is_drawn(of_bars: Diffusion) -> None:
    for name, label in (("bar", 0), ("dash", 1)):
        for word, side in (("dark", 1), ("grey", 2), ("bright", 3)):
            drawn = of_bars.sample(30, condition=Prompt(f"A {word} {name}."), seed=1)
            assert drawn.labels.tolist() == [label] * 30
            corner = drawn.images[:, 0, 0, 2].astype(float) - drawn.images[:, 0, 2, 0]
            assert ((corner > 0) == (name == "bar")).mean() > 0.9, (word, name)
            # What is neither may fall to either side.
            assert (of_bars.captions.sides(drawn)[:, 2] == side).mean() > (0.4 if word == "grey" else 0.6), (word, name)


def test_a_prompt_without_a_class_is_of_classes_as_in_the_data(of_bars: Diffusion) -> None:
    drawn = of_bars.sample(40, condition=Prompt("a bright picture"), seed=1)
    assert 5 < drawn.labels.sum() < 35
    assert (of_bars.captions.sides(drawn)[:, 2] == 3).mean() > 0.6
    assert of_bars.sample(40, condition=Prompt("a picture"), seed=1).labels.tolist() == drawn.labels.tolist()


def test_prompts_may_be_one_a_sample_and_classes_are_asked_for_as_ever(of_bars: Diffusion) -> None:
    each = of_bars.sample(2, condition=[Prompt("a bright bar"), Prompt("dash")], seed=3)
    assert each.labels.tolist() == [0, 1]
    assert of_bars.sample(4, condition="dash", seed=3).labels.tolist() == [1] * 4
    with pytest.raises(SimulacraError, match="2 prompts cannot be shared out to 3 samples"):
        of_bars.sample(3, condition=[Prompt("bar")] * 2, seed=0)
    with pytest.raises(SimulacraError, match="unknown words: purple"):
        of_bars.sample(3, condition=Prompt("a purple bar"), seed=0)


def test_a_class_alone_is_as_varied_as_the_data(of_bars: Diffusion) -> None:
    """Silence about an attribute says nothing of it: a bar is no likelier to be grey than dark or bright."""
    sides = of_bars.captions.sides(of_bars.sample(200, condition="bar", seed=2))
    assert np.bincount(sides[:, 2], minlength=4)[1:].min() > 25


def test_a_saved_model_understands_the_same_prompts(of_bars: Diffusion, tmp_path: Path) -> None:
    of_bars.save(tmp_path)
    loaded, prompt = Diffusion.load(tmp_path), Prompt("a dark dash")
    assert loaded.captions.words == of_bars.captions.words
    drawn = of_bars.sample(5, condition=prompt, seed=4)
    assert loaded.sample(5, condition=prompt, seed=4).fingerprint() == drawn.fingerprint()


def test_while_training_words_are_left_out_whatever_they_say() -> None:
    captions = Captions(("x", "y", "z"))
    with seeded(0):
        network = DiffusionNetwork(DiffusionConfig(**SMALL), (1, 8, 8), 3, captions)
    whole = torch.tensor([captions.index(2, (1, 3, 0)), captions.index(1, (2, 2, 2))]).repeat(2000)
    found = [captions.split(int(index)) for index in network._with_fewer_words(whole, Noise(0))]
    assert {label for label, _ in found[::2]} == {2} and {label for label, _ in found[1::2]} == {1}
    for sides, expected in ((found[::2], (1, 3, 0)), (found[1::2], (2, 2, 2))):
        shares = np.mean([[side == word for side, word in zip(each, expected, strict=True)] for _, each in sides], 0)
        assert shares == pytest.approx([0.5, 0.5, 1.0 if expected[2] == 0 else 0.5], abs=0.05)
        assert {side for _, each in sides for side in each} <= {0, *expected}


@pytest.mark.parametrize(
    ("data", "config"), [(DATA, {"captions": False}), (ImageSet(DATA.images), {}), (DATA, {"conditional": False})]
)
def test_a_model_without_captions_takes_no_prompts(data: ImageSet, config: dict[str, Any]) -> None:
    model = fitted(data, TrainingConfig(steps=1), **config)
    assert model.captions is None
    for condition in (Prompt("a bar"), [Prompt("a bar")] * 2):
        with pytest.raises(SimulacraError, match="diffusion takes no prompts"):
            model.sample(2, condition=condition, seed=0)


def test_codes_are_asked_for_in_words_too() -> None:
    model = fitted(
        dim_and_bright_bars(), TrainingConfig(steps=5), **{k: v for k, v in LATENT.items() if k not in SMALL}
    )
    assert model.sample(3, condition=Prompt("a dark bar"), seed=0).labels.tolist() == [0, 0, 0]
