import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.data.images import load_images
from simulacra.errors import SimulacraError
from simulacra.models.gan import GAN, GANConfig, GANNetwork
from simulacra.training.adversarial import OBJECTIVES
from simulacra.training.batches import Batch, to_float
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History
from simulacra.training.noise import Noise
from simulacra.training.seeding import seeded

os.environ["KERAS_BACKEND"] = "torch"  # read when Keras is imported, by importorskip too

CONF = Path(__file__).resolve().parents[2] / "conf"
DATA = fabricate_images(n=120, size=8, channels=1, n_classes=3, seed=0)
ARCHITECTURES = ["mlp", "dcgan", "resnet", "keras_mlp"]
SHORT = TrainingConfig(steps=12, batch_size=24, log_every=1, validate_every=6, ema_decay=0.9, gradient_clip=0.0)


def config(**changes: object) -> GANConfig:
    if changes.get("architecture") == "keras_mlp":
        pytest.importorskip("keras")
    if changes.get("objective") == "wasserstein":
        changes = {"gradient_penalty": 10.0, **changes}
    return GANConfig.model_validate({"width": 4, "latent_dim": 8, **changes})


def network(**changes: object) -> GANNetwork:
    with seeded(0):
        return GANNetwork(config(**changes), DATA.shape, len(DATA.class_names))


def batch(n: int = 24, step: int = 0) -> Batch:
    return Batch(to_float(torch.from_numpy(DATA.images[:n])), torch.from_numpy(DATA.labels[:n]), step, Noise(5, step))


def fit(training: TrainingConfig = SHORT, checkpoints: Path | None = None, **changes: object) -> tuple[GAN, History]:
    model = GAN(config(**changes))
    return model, model.fit(DATA, validation=DATA, training=training, seed=0, checkpoints=checkpoints)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_trains_for_every_objective(architecture: str, objective: str) -> None:
    model, history = fit(architecture=architecture, objective=objective)
    frame = history.frame()
    assert np.isfinite(frame["value"]).all()
    assert model.sample(5, condition=1, seed=0).images.shape == (5, *DATA.shape)
    with seeded(0):
        untrained = GANNetwork(model.config, DATA.shape, 3).state_dict()
    for name in ("generator", "discriminator"):
        moved = [key for key, value in model.network.state_dict().items() if not torch.equal(value, untrained[key])]
        assert any(key.startswith(name) for key in moved)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_and_loaded_every_architecture_is_the_same_model(architecture: str, tmp_path: Path) -> None:
    model, _ = fit(architecture=architecture, spectral_norm=True)
    model.save(tmp_path)
    loaded = GAN.load(tmp_path)
    assert loaded.fingerprint() == model.fingerprint() and loaded.n_parameters() == model.n_parameters()
    assert loaded.sample(9, seed=3).fingerprint() == model.sample(9, seed=3).fingerprint()


def test_curves_say_how_the_game_stands() -> None:
    _, history = fit(r1=0.1, gradient_penalty=1.0)
    frame = history.frame()
    named = {"loss", "win_rate", "real_score", "fake_score", "r1", "gradient_penalty", "gradient_norm"}
    expected = {f"discriminator_{name}" for name in named} | {"generator_loss", "generator_gradient_norm"}
    assert set(frame[frame.split == "train"].name) == expected | {"learning_rate"}
    validation = frame[frame.split == "validation"]
    assert set(validation.name) == {"loss", "win_rate", "real_score", "fake_score"}
    assert validation[validation.name == "win_rate"].value.between(0, 1).all()


def test_win_rate_is_the_share_of_pairs_in_which_the_real_image_scores_higher() -> None:
    judged = network().judged(torch.tensor([1.0, 2.0, 0.0, 5.0]), torch.tensor([0.0, 3.0, -1.0, 4.0]))
    assert float(judged["win_rate"]) == 0.75
    assert (float(judged["real_score"]), float(judged["fake_score"])) == (2.0, 1.5)


def parts(**changes: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The discriminator's values with some penalties, and without any, for the same networks and numbers."""
    bare = {"r1": 0.0, "gradient_penalty": 0.0}
    with_penalties, without = network(**changes), network(**{**changes, **bare})
    return with_penalties.discriminator_loss(batch()), without.discriminator_loss(batch())


@pytest.mark.parametrize("changes", [{"r1": 3.0}, {"gradient_penalty": 2.0}, {"r1": 1.0, "gradient_penalty": 5.0}])
def test_penalties_are_added_at_their_weights(changes: dict[str, float]) -> None:
    found, bare = parts(**changes)
    penalties = sum(float(found[name].detach()) for name in changes)
    assert float(found["loss"].detach()) == pytest.approx(float(bare["loss"].detach()) + penalties, rel=1e-5)
    assert penalties > 0 and set(found) - set(bare) == set(changes)
    doubled, _ = parts(**{name: 2 * weight for name, weight in changes.items()})
    for name in changes:
        assert float(doubled[name].detach()) == pytest.approx(2 * float(found[name].detach()), rel=1e-5)


def test_each_player_s_loss_moves_its_own_network_only() -> None:
    net = network(r1=0.1)
    net.generator_loss(batch())["loss"].backward()
    assert all(parameter.grad is None for parameter in net.discriminator.parameters())
    assert all(parameter.grad is not None for parameter in net.generator.parameters())
    net.zero_grad()
    net.discriminator_loss(batch())["loss"].backward()
    assert all(parameter.grad is None for parameter in net.generator.parameters())
    assert all(parameter.grad is not None for parameter in net.discriminator.parameters())
    owned = [parameter for update in net.updates() for parameter in update.parameters]
    assert {id(parameter) for parameter in owned} == {id(parameter) for parameter in net.parameters()}


def test_keras_s_moving_statistics_belong_to_no_optimiser() -> None:
    net = network(architecture="keras_mlp")
    owned = {id(parameter) for update in net.updates() for parameter in update.parameters}
    left = [parameter for parameter in net.parameters() if id(parameter) not in owned]
    assert len(left) == 6 and not any(parameter.requires_grad for parameter in left)


def test_rates_and_moments_are_the_configuration_s() -> None:
    discriminator, generator = network(n_critic=3, discriminator_rate=4.0, beta1=0.0, beta2=0.9).updates()
    assert (discriminator.every, discriminator.rate, discriminator.betas) == (1, 4.0, (0.0, 0.9))
    assert (generator.every, generator.rate, generator.betas) == (3, 1.0, (0.0, 0.9))


def test_the_generator_takes_its_turn_every_n_critic_steps() -> None:
    _, history = fit(n_critic=5)
    frame = history.frame()
    assert frame[frame.name == "generator_loss"].step.tolist() == [5, 10]
    assert frame[frame.name == "discriminator_loss"].step.tolist() == list(range(1, 13))


def test_augmentation_is_of_what_the_discriminator_sees_on_both_sides() -> None:
    plain, changed = network(), network(diffaug=["translation", "cutout", "color"])
    x = batch().x
    assert plain.seen(x, Noise(0)) is x
    first, second = changed.seen(x, Noise(0)), changed.seen(x, Noise(1))
    assert not torch.equal(first, x) and not torch.equal(first, second)
    for loss in ("discriminator_loss", "generator_loss", "loss"):
        values = [getattr(net, loss)(batch())["loss"].item() for net in (plain, changed)]
        assert values[0] != values[1]
    changed.generator_loss(batch())["loss"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in changed.generator.body.stem.parameters())


def test_a_wasserstein_critic_without_bound_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set gradient_penalty \(10 is usual\) or spectral_norm"):
        GANConfig(objective="wasserstein", spectral_norm=False)
    assert GANConfig(objective="wasserstein", spectral_norm=True).gradient_penalty == 0


@pytest.mark.parametrize("penalty", ["r1", "gradient_penalty"])
def test_a_penalty_that_torch_cannot_compile_is_told_before_the_training(penalty: str) -> None:
    with pytest.raises(SimulacraError, match=r"set training.compile=auto, or model.r1 and model.gradient_penalty to 0"):
        fit(SHORT.model_copy(update={"compile": True}), **{penalty: 1.0})


def test_patience_and_best_weights_are_gone_without_and_told(caplog: pytest.LogCaptureFixture) -> None:
    plain, _ = fit()
    assert "keep_best" not in caplog.text
    asked, history = fit(SHORT.model_copy(update={"patience": 1, "validate_every": 1, "keep_best": True}))
    assert history.facts["steps"] == 12 and asked.fingerprint() == plain.fingerprint()
    assert caplog.text.count("gan: goes without training.patience and training.keep_best") == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_interrupted_between_two_turns_of_the_generator_it_ends_bit_for_bit(
    architecture: str, precision: str, tmp_path: Path
) -> None:
    changes = {"architecture": architecture, "n_critic": 3, "r1": 0.1, "spectral_norm": True, "diffaug": ["color"]}
    training = SHORT.model_copy(update={"precision": precision, "checkpoint_steps": 4})
    expected, history = fit(training, **changes)

    def stop(step: int, split: str, values: dict[str, float]) -> None:
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GAN(config(**changes)).fit(
            DATA, validation=DATA, training=training, seed=0, checkpoints=tmp_path, callbacks=[stop]
        )
    resumed, found = fit(training, tmp_path, **changes)
    assert resumed.fingerprint() == expected.fingerprint() and found.points == history.points


def test_samples_are_the_averaged_generator_s() -> None:
    plain, _ = fit(SHORT.model_copy(update={"ema_decay": 0.0}))
    averaged, history = fit()
    assert history.facts["ema"] and plain.sample(5, seed=0).fingerprint() != averaged.sample(5, seed=0).fingerprint()
    weights = (model.network.state_dict()["generator.body.norms.0.running_mean"] for model in (plain, averaged))
    assert not torch.equal(*weights), "running statistics are averaged with the weights that they belong to"


def test_it_learns_the_classes_and_their_variety() -> None:
    """On three fabricated classes: samples lie nearest to their own class's mean, and differ as real ones do."""
    model = GAN(config(width=16, spectral_norm=True, beta1=0.0))
    budget = TrainingConfig(steps=250, batch_size=48, learning_rate=2e-3, ema_decay=0.98, gradient_clip=0.0)
    model.fit(DATA, training=budget, seed=0)
    real = DATA.images.reshape(len(DATA), -1).astype(np.float64)
    means = np.stack([real[DATA.labels == label].mean(0) for label in range(3)])
    samples = model.sample(300, condition=np.arange(300) % 3, seed=0)
    found = samples.images.reshape(300, -1).astype(np.float64)
    nearest = np.square(found[:, None] - means).sum(-1).argmin(1)
    own = np.square(real[:, None] - means).sum(-1).argmin(1)
    assert (nearest == samples.labels).mean() > 0.9 * (own == DATA.labels).mean()
    for label in range(3):
        spread = found[samples.labels == label].std(0).mean() / real[DATA.labels == label].std(0).mean()
        assert 0.4 < spread < 1.6, "one image a class would have none"


def test_unlabelled_data_are_trained_without_classes() -> None:
    model = GAN(config())
    model.fit(ImageSet(DATA.images), training=SHORT, seed=0)
    assert model.network.generator.classes is None and model.network.discriminator.classes is None


SHARED = """
import json, sys

def main():
    from simulacra.data.fabricate import fabricate_images
    from simulacra.models.gan import GAN, GANConfig
    from simulacra.training.config import TrainingConfig

    data = fabricate_images(n=240, size=8, channels=1, n_classes=2, seed=0)
    curves = {}
    for processes in (1, 2):
        options = {"n_critic": 2, "spectral_norm": True, "r1": 0.1, "gradient_penalty": 1.0, "diffaug": ["translation"]}
        model = GAN(GANConfig(architecture=sys.argv[1], width=4, latent_dim=4, **options))
        training = TrainingConfig(steps=20, batch_size=32, log_every=2, processes=processes, precision="fp32",
                                  learning_rate=1e-3, gradient_clip=0)
        history = model.fit(data, training=training, seed=0)
        names = ("discriminator_loss", "discriminator_win_rate", "generator_loss", "generator_gradient_norm")
        curves[processes] = [point["value"] for point in history.points if point["name"] in names]
    print(json.dumps(curves))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["mlp", "dcgan", "resnet"])
def test_two_processes_play_the_game_that_one_plays(architecture: str, tmp_path: Path) -> None:
    done = run_script(SHARED, tmp_path, architecture)
    one, two = json.loads(done.stdout.splitlines()[-1]).values()
    assert len(one) == 40
    assert two[:12] == pytest.approx(one[:12], rel=1e-4, abs=1e-5)
    assert two == pytest.approx(one, rel=2e-2, abs=1e-3)


KILLED = """
import json, logging, multiprocessing, os, signal, sys, threading, time
from pathlib import Path

def kill(folder):
    while not list(folder.glob("step-*")):
        time.sleep(0.005)
    os.kill(max(child.pid for child in multiprocessing.active_children()), signal.SIGKILL)

def main():
    from simulacra.data.fabricate import fabricate_images
    from simulacra.models.gan import GAN, GANConfig
    from simulacra.training.config import TrainingConfig

    logging.basicConfig(level=logging.INFO)
    data = fabricate_images(n=240, size=8, channels=1, n_classes=2, seed=0)
    for name in ("whole", "killed"):
        options = {"n_critic": 3, "spectral_norm": True, "r1": 0.1, "diffaug": ["translation"]}
        model = GAN(GANConfig(width=4, latent_dim=4, **options))
        training = TrainingConfig(steps=100, batch_size=32, log_every=1, processes=2, precision="fp32",
                                  ema_decay=0.9, checkpoint_steps=10, watch_every=7, watch_samples=20)
        if name == "killed":
            threading.Thread(target=kill, args=(Path(sys.argv[1]) / name,), daemon=True).start()
        history = model.fit(data, validation=data, training=training, seed=0, checkpoints=Path(sys.argv[1]) / name)
        print(json.dumps([model.fingerprint(), history.points]), flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_between_two_turns_of_the_generator_end_bit_for_bit(
    tmp_path: Path,
) -> None:
    done = run_script(KILLED, tmp_path, str(tmp_path))
    whole, killed = map(json.loads, done.stdout.splitlines())
    steps = re.findall(r"goes on from step (\d+)", done.stderr)
    assert steps and any(int(step) % 3 for step in steps), (
        "each checkpoint but every third lies within a cycle of three"
    )
    assert killed == whole


def run_script(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
def test_samples_of_the_generator_in_keras_reach_the_leaderboard(
    fresh_project: Path, kedro: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pytest.importorskip("keras")
    (fresh_project / "conf/test/experiments.yml").write_text("mnist:\n  families: [gan]\n")
    kedro(
        fresh_project, "run", "--env", "test", "--namespaces", "mnist", "--params", "gan.model.architecture=keras_mlp"
    )
    data = fresh_project / "data/test"
    record = json.loads((data / "06_models/mnist/gan/training.json").read_text())
    assert record["config"]["model"]["architecture"] == "keras_mlp"
    rows = pd.read_csv(data / "08_reporting/mnist/leaderboard.csv").set_index("row")
    assert np.isfinite(rows.loc["gan", "fd_classifier"])


def test_keras_in_several_processes_is_refused_before_the_training() -> None:
    model = GAN(GANConfig(architecture="keras_mlp"))
    with pytest.raises(SimulacraError, match=r"keras_mlp trains in one process only.*set gan.training.processes"):
        model.fit(DATA, training=SHORT.model_copy(update={"processes": 2}), seed=0)


def test_looks_at_samples_are_at_the_generator_s_own_weights() -> None:
    seen: list[str] = []

    class Watched(GAN):
        def sample(self, n: int, **options: Any) -> ImageSet:
            samples = super().sample(n, **options)
            seen.append(samples.fingerprint())
            return samples

    def watched(**changes: object) -> list[str]:
        seen.clear()
        training = SHORT.model_copy(update={"watch_every": 6, "watch_samples": 20, **changes})
        Watched(config()).fit(DATA, training=training, seed=0)
        return seen[:]

    assert len(watched()) == 2 and watched() == watched(ema_decay=0.0)


def test_only_the_generator_is_averaged() -> None:
    plain, averaged = fit(SHORT.model_copy(update={"ema_decay": 0.0}))[0], fit(SHORT)[0]
    own, mean = plain.network.state_dict(), averaged.network.state_dict()
    for key, value in own.items():
        assert torch.equal(value, mean[key]) or key.startswith("generator."), key
    assert not torch.equal(own["generator.body.stem.0.weight"], mean["generator.body.stem.0.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_300_steps_on_mnist_do_not_diverge(architecture: str, objective: str) -> None:
    """At the hyper-parameters of conf/base: losses stay finite, and samples are neither blank nor all alike."""
    from simulacra.data.config import MnistSource

    data = load_images(MnistSource())[0]
    blocks = yaml.safe_load((CONF / "base/parameters/gan.yml").read_text())["gan"]
    shared = yaml.safe_load((CONF / "base/parameters/common.yml").read_text())["training"]
    model = GAN(config(**{**blocks["model"], "architecture": architecture, "objective": objective}))
    training = TrainingConfig.model_validate(shared | blocks["training"] | {"steps": 300})
    history = model.fit(data, training=training, seed=0)
    assert history.facts["steps"] == 300 and np.isfinite(history.frame()["value"]).all()
    samples = model.sample(100, seed=0).images / 255
    assert 0.02 < samples.mean() < 0.5 and samples.std(0).mean() > 0.05
