import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.metrics.frechet import frechet_distance
from simulacra.models.autoencoder import Autoencoder, AutoencoderConfig, AutoencoderNetwork, FlowPrior, MixturePrior
from simulacra.training.batches import Batch, to_float
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise
from simulacra.training.seeding import seeded

DATA = fabricate_images(n=400, size=8, channels=1, n_classes=2, seed=0)
TRAIN, HELD_OUT = DATA.take(range(300)), DATA.take(range(300, 400))
BUDGET = TrainingConfig(steps=150, batch_size=32, learning_rate=5e-3, validate_every=50)


def fit(budget: TrainingConfig = BUDGET, **config: object) -> Autoencoder:
    model = Autoencoder(AutoencoderConfig.model_validate({"width": 8, "levels": 1, "latent_dim": 4} | config))
    model.fit(TRAIN, validation=HELD_OUT, training=budget, seed=0)
    return model


@pytest.fixture(scope="module")
def model() -> Autoencoder:
    return fit(components=(1,), reg_covar=1e-9)


def squared_error(a: ImageSet, b: ImageSet) -> float:
    return float(np.square(a.images.astype(float) - b.images).mean())


def test_what_it_has_not_seen_it_gives_back(model: Autoencoder) -> None:
    returned = model.decode(model.encode(HELD_OUT), condition=HELD_OUT.labels)
    mean = ImageSet(np.broadcast_to(TRAIN.images.mean(0).astype(np.uint8), HELD_OUT.images.shape))
    assert squared_error(HELD_OUT, returned) < 0.5 * squared_error(HELD_OUT, mean)
    assert (returned.labels == HELD_OUT.labels).all()


def test_codes_are_standardised_over_the_training_images_and_decode_as_before(model: Autoencoder) -> None:
    codes = model.encode(TRAIN)
    assert codes.mean(0) == pytest.approx(0, abs=1e-5) and codes.std(0) == pytest.approx(1, abs=1e-4)
    raw = fit(components=(1,), standardise=False)
    assert np.abs(raw.encode(TRAIN).std(0) - 1).max() > 0.05
    again, as_it_was = (each.decode(each.encode(HELD_OUT), condition=0).images.astype(int) for each in (model, raw))
    assert np.abs(again - as_it_was).max() <= 1


def test_a_mixture_of_one_component_draws_codes_with_the_moments_of_their_class(model: Autoencoder) -> None:
    codes, rng = model.encode(TRAIN), np.random.default_rng(0)
    for label in (0, 1):
        own = codes[TRAIN.labels == label]
        drawn = model.prior.draw(np.full(40_000, label), rng)
        assert drawn.mean(0) == pytest.approx(own.mean(0), abs=0.03)
        assert np.cov(drawn.T) == pytest.approx(np.cov(own.T, bias=True), abs=0.05)


def test_a_normal_prior_is_the_same_for_every_class_and_counts_no_parameters() -> None:
    normal = fit(TrainingConfig(steps=5), prior="normal")
    drawn = normal.prior.draw(np.zeros(20_000, np.int64), np.random.default_rng(0))
    assert drawn.mean(0) == pytest.approx(0, abs=0.03) and np.cov(drawn.T) == pytest.approx(np.eye(4), abs=0.05)
    assert not normal.conditional and normal.sample(3, seed=0).labels is None
    with pytest.raises(SimulacraError, match="fitted without classes"):
        normal.sample(3, condition=1, seed=0)
    assert normal.n_parameters() == sum(parameter.numel() for parameter in normal.network.parameters())


def test_a_density_fitted_to_the_codes_samples_better_than_a_normal_one() -> None:
    others = fabricate_images(n=1000, size=8, channels=1, n_classes=2, seed=5)

    def distance(**config: object) -> float:
        # From what the decoder makes of real codes: what it cannot draw is no fault of the density.
        model = fit(**config)
        returned = model.decode(model.encode(others)).images.reshape(1000, -1) / 255.0
        return frechet_distance(returned, model.sample(1000, seed=0).images.reshape(1000, -1) / 255.0)

    mixture, standardised, raw = distance(), distance(prior="normal"), distance(prior="normal", standardise=False)
    assert mixture < 0.6 * standardised < 0.6 * raw


def test_a_flow_learns_the_codes_of_each_class() -> None:
    model = Autoencoder(AutoencoderConfig(width=8, levels=1, latent_dim=4, prior="flow", prior_steps=150))
    heard: list[tuple[int, str, str]] = []
    history = model.fit(
        TRAIN,
        validation=HELD_OUT,
        training=BUDGET,
        callbacks=[lambda step, split, values: heard.extend((step, split, name) for name in values)],
    )
    frame = history.frame().query("name == 'prior_loss'")
    assert frame["step"].min() > 150 and frame["step"].max() == 300
    assert set(frame["split"]) == {"train", "validation"}
    # N(0, I) costs ½ log 2πe nats a coordinate of standardised codes.
    assert frame.query("split == 'train'")["value"].tail(5).mean() < 0.5 * np.log(2 * np.pi * np.e) - 0.05
    assert heard == [(point["step"], point["split"], point["name"]) for point in history.points]
    assert history.facts["prior_steps"] == 150 and history.facts["steps"] == 150
    codes, rng = model.encode(TRAIN), np.random.default_rng(0)
    for label in (0, 1):
        drawn = model.prior.draw(np.full(5000, label), rng)
        assert drawn.mean(0) == pytest.approx(codes[TRAIN.labels == label].mean(0), abs=0.3)
    assert isinstance(model.prior, FlowPrior) and not any("encoder" in key for key in model.prior.state_dict())


def test_a_flow_needs_two_coordinates() -> None:
    with pytest.raises(ValueError, match="prior: flow needs latent_dim 2 or more"):
        AutoencoderConfig(prior="flow", latent_dim=1)


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_the_loss_is_the_error_of_clean_pixels_and_the_size_of_the_codes(loss: str) -> None:
    config = AutoencoderConfig.model_validate(
        {"width": 4, "levels": 1, "loss": loss, "noise": 0.5, "code_penalty": 0.1}
    )
    with seeded(0):
        network = AutoencoderNetwork(config, DATA.shape)
    x = to_float(torch.from_numpy(DATA.images))
    for training in (True, False):
        network.train(training)
        with torch.no_grad():
            values = network.loss(Batch(x, None, 0, Noise(7)))
            seen = x + 0.5 * Noise(7).normal(*x.shape) if training else x
            codes = network.encode(seen)
            error = network.decode(codes) - x
        expected = error.square().mean() if loss == "mse" else error.abs().mean()
        assert float(values["reconstruction"]) == pytest.approx(float(expected), rel=1e-5)
        assert float(values["loss"]) == pytest.approx(float(expected + 0.1 * codes.square().mean()), rel=1e-5)


def test_noise_at_training_teaches_to_remove_it() -> None:
    rng = np.random.default_rng(1)
    spoilt = HELD_OUT.images + 255 * 0.35 * rng.standard_normal(HELD_OUT.images.shape)
    noisy = ImageSet(np.clip(spoilt, 0, 255).astype(np.uint8))

    def left(model: Autoencoder) -> float:
        return squared_error(HELD_OUT, model.decode(model.encode(noisy), condition=0 if model.conditional else None))

    denoised = left(fit(noise=0.7))
    assert denoised < left(fit()) and denoised < 0.5 * squared_error(HELD_OUT, noisy)


def test_mixtures_of_several_classes_are_saved_apart(tmp_path: Path) -> None:
    model = fit(TrainingConfig(steps=5), components=(2,))
    model.save(tmp_path)
    loaded = Autoencoder.load(tmp_path)
    assert isinstance(loaded.prior, MixturePrior) and sorted(loaded.prior.mixtures) == [0, 1]
    assert loaded.fingerprint() == model.fingerprint()
    assert loaded.sample(5, condition=1, seed=3).fingerprint() == model.sample(5, condition=1, seed=3).fingerprint()


KILLED = """
import os, signal, sys
from pathlib import Path
from simulacra.data.fabricate import fabricate_images
from simulacra.models.autoencoder import Autoencoder, AutoencoderConfig
from simulacra.training.config import TrainingConfig

training = TrainingConfig(
    steps=10, batch_size=16, log_every=1, validate_every=4, ema_decay=0.9, warmup_steps=2, checkpoint_steps=3
)
data = fabricate_images(n=100, size=8, channels=1, n_classes=2, seed=0)

def fit(folder, kill_at):
    def kill(step, split, values):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    model = Autoencoder(AutoencoderConfig(width=4, prior="flow", prior_steps=12))
    history = model.fit(
        data.take(range(80)), validation=data.take(range(80, 100)), training=training, seed=3, checkpoints=folder,
        callbacks=[kill],
    )
    print(model.fingerprint(), model.sample(4, seed=1).fingerprint(), history.frame().to_csv(index=False), flush=True)

for name, kill_at in [("killed", 7), ("killed", 12), ("killed", 19), ("killed", 0), ("whole", 0)]:
    child = os.fork()
    if not child:
        fit(Path(sys.argv[1]) / name, kill_at)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if kill_at else 0), (name, kill_at, status)
    kept = sorted(path.name for path in (Path(sys.argv[1]) / name / "prior").glob("step-*"))
    print("=" * 9 + " ".join(kept), flush=True)
"""


def run(script: str, place: Path) -> subprocess.CompletedProcess[str]:
    file = place / "script.py"
    file.write_text(script)
    return subprocess.run(
        [sys.executable, str(file), str(place)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_killed_in_either_training_it_ends_bit_for_bit_as_if_it_had_not_been(tmp_path: Path) -> None:
    done = run(KILLED, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    # What a training printed stands before the line on what was kept of the flow's.
    *interrupted, resumed, whole, _ = done.stdout.split("=========")
    kept = [part.split("\n")[0] for part in (*interrupted[1:], resumed, whole)]
    assert kept == ["", "", "step-000000003 step-000000006", ""], "none before the flow began, none after it ended"
    assert resumed.split("\n", 1)[1] == whole.split("\n", 1)[1] and len(whole) > 500


SHARED = """
import json

def main():
    from simulacra.data.fabricate import fabricate_images
    from simulacra.models.autoencoder import Autoencoder, AutoencoderConfig
    from simulacra.training.config import TrainingConfig

    data = fabricate_images(n=240, size=8, channels=1, n_classes=2, seed=0)
    for prior in ("flow", "gmm"):
        losses = {}
        for processes in (1, 2):
            model = Autoencoder(AutoencoderConfig(width=4, latent_dim=4, prior=prior, prior_steps=20))
            training = TrainingConfig(steps=20, batch_size=32, log_every=1, processes=processes, precision="fp32")
            history = model.fit(data, validation=data, training=training, seed=0)
            wanted = {"flow": "prior_loss", "gmm": "loss"}[prior]
            losses[processes] = [
                point["value"] for point in history.points if point["name"] == wanted and point["split"] == "train"
            ]
            losses[processes] += model.sample(50, seed=0).images.mean((1, 2, 3)).tolist()
        print(json.dumps(losses))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    done = run(SHARED, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for line in done.stdout.splitlines():
        one, two = json.loads(line).values()
        assert len(one) == 70 and two[:20] == pytest.approx(one[:20], rel=1e-3)
        assert np.corrcoef(one[20:], two[20:])[0, 1] > 0.99
