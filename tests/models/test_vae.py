import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.models.vae import VAE, LadderNetwork, VAEConfig, VAENetwork
from simulacra.nn.distributions import gaussian_log_prob
from simulacra.nn.latents import Gaussian, codes, precision_weighted
from simulacra.training.batches import Batch, to_float
from simulacra.training.config import TrainingConfig
from simulacra.training.noise import Noise
from simulacra.training.seeding import seeded

DATA = fabricate_images(n=120, size=8, channels=1, n_classes=2, seed=0)


def network(**config: object) -> VAENetwork:
    with seeded(0):
        return VAENetwork(VAEConfig.model_validate({"width": 4, "levels": 1, "latent_dim": 1, **config}), (1, 2, 2), 0)


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretised_logistic"])
def test_elbo_is_a_lower_bound_of_the_likelihood_by_quadrature(likelihood: str) -> None:
    net = network(likelihood=likelihood)
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand(1, 1, 2, 2)
    with torch.inference_mode():
        z = torch.linspace(-8, 8, 20_001)[:, None]
        prior = torch.distributions.Normal(0, 1).log_prob(z[:, 0])
        joint = net.log_likelihood(x.expand(len(z), -1, -1, -1), net.decode(z, None)) + prior
        log_p = float(torch.logsumexp(joint.double(), 0)) + np.log(16 / 20_000)
        reconstruction, kl = net.elbo_terms(x.expand(4000, -1, -1, -1), None, Noise(0))
        elbo = float((reconstruction - kl).mean())
    assert elbo < log_p < 0
    # KL(q ‖ posterior) is the gap; for an untrained encoder near the prior it is small.
    assert elbo == pytest.approx(log_p, abs=1.0)


def test_conditional_elbo_is_a_lower_bound_under_the_class_s_own_prior() -> None:
    with seeded(0):
        net = VAENetwork(VAEConfig(width=4, levels=1, latent_dim=1, likelihood="bernoulli"), (1, 2, 2), 2)
    net.prior_mean.data = torch.tensor([[-2.0], [1.5]])
    net.prior_log_variance.data = torch.tensor([[0.6], [-1.0]])
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand(1, 1, 2, 2)
    with torch.inference_mode():
        z = torch.linspace(-12, 12, 20_001)[:, None]
        for label, (mean, scale) in enumerate([(-2.0, np.exp(0.3)), (1.5, np.exp(-0.5))]):
            y = torch.full((len(z),), label)
            prior = torch.distributions.Normal(mean, scale).log_prob(z[:, 0])
            joint = net.log_likelihood(x.expand(len(z), -1, -1, -1), net.decode(z, y)) + prior
            log_p = float(torch.logsumexp(joint.double(), 0)) + np.log(24 / 20_000)
            q_mean, q_log_variance = net.encode(x, y[:1])
            q = torch.distributions.Normal(q_mean[0, 0], torch.exp(0.5 * q_log_variance[0, 0]))
            log_q = q.log_prob(z[:, 0])
            # log p(x) − ELBO is KL(q ‖ p(z | x)), here summed over the grid.
            gap = float((log_q.exp() * (log_q - (joint - log_p))).double().sum() * 24 / 20_000)
            reconstruction, kl = net.elbo_terms(x.expand(20_000, -1, -1, -1), torch.full((20_000,), label), Noise(0))
            elbo = float((reconstruction - kl).double().mean())
            assert gap > 0.01 and elbo == pytest.approx(log_p - gap, abs=0.02)


def test_bounds_of_all_binary_images_sum_to_at_most_one() -> None:
    net = network(likelihood="bernoulli")
    outcomes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4))).reshape(16, 1, 2, 2)
    with torch.inference_mode():
        bounds = [
            float((reconstruction - kl).mean())
            for reconstruction, kl in (net.elbo_terms(x.expand(4000, 1, 2, 2), None, Noise(0)) for x in outcomes)
        ]
    total = np.exp(logsumexp(bounds))
    assert 0.5 < total <= 1 + 1e-3


def test_draws_of_the_weight_average_to_the_elbo_and_tighten_to_the_likelihood() -> None:
    net = network(likelihood="bernoulli")
    model = VAE(VAEConfig(width=4, levels=1, latent_dim=1, likelihood="bernoulli", conditional=False))
    model.shape, model.network = (1, 2, 2), net
    images = np.array([[255, 0], [0, 255]], np.uint8)[None, None].repeat(4000, axis=0)
    with torch.inference_mode():
        x = to_float(torch.from_numpy(images))
        z = torch.linspace(-8, 8, 20_001)[:, None]
        prior = torch.distributions.Normal(0, 1).log_prob(z[:, 0])
        joint = net.log_likelihood(x[:1].expand(len(z), -1, -1, -1), net.decode(z, None)) + prior
        log_p = float(torch.logsumexp(joint.double(), 0)) + np.log(16 / 20_000)
        reconstruction, kl = net.elbo_terms(x, None, Noise(9))
        analytic = float((reconstruction - kl).mean())
    elbo, five, many = (model.elbo(images, importance_samples=k).mean() for k in (1, 5, 100))
    assert elbo == pytest.approx(analytic, abs=0.02)
    assert elbo < five < many < log_p + 2e-3 and many == pytest.approx(log_p, abs=5e-3)


def test_loss_weights_the_kl_term_by_beta_and_warm_up() -> None:
    net = network(beta=3.0, kl_warmup_steps=10)
    batch = to_float(torch.randint(0, 256, (8, 1, 2, 2), dtype=torch.uint8))

    def parts(step: int) -> dict[str, float]:
        with torch.no_grad():
            return {key: float(value) for key, value in net.loss(Batch(batch, None, step, Noise(1))).items()}

    net.train()
    for step, weight in ((0, 0.3), (4, 1.5), (9, 3.0), (500, 3.0)):
        values = parts(step)
        assert values["loss"] == pytest.approx((values["reconstruction"] + weight * values["kl"]) / 4, rel=1e-5)
        assert values["negative_elbo"] == pytest.approx(values["reconstruction"] + values["kl"], rel=1e-5)
    net.eval()
    assert parts(0)["loss"] == pytest.approx((parts(0)["reconstruction"] + 3 * parts(0)["kl"]) / 4, rel=1e-5)


def test_training_raises_the_elbo() -> None:
    model = VAE(VAEConfig(width=8, levels=1, latent_dim=4))
    history = model.fit(
        DATA, validation=DATA, training=TrainingConfig(steps=300, learning_rate=5e-3, validate_every=20), seed=0
    )
    curve = history.frame().query("split == 'validation' and name == 'negative_elbo'")["value"].tolist()
    assert curve[-1] < 0.8 * curve[0]
    assert -model.elbo(DATA.images).mean() == pytest.approx(curve[-1], rel=0.1)


def test_summing_classes_out_never_lowers_the_bound_below_its_best_class() -> None:
    model = VAE(VAEConfig(width=4, levels=1, latent_dim=2))
    model.fit(DATA, training=TrainingConfig(steps=20), seed=0)
    by_class = model.log_likelihoods(DATA.images, Noise(0)).T + np.log(model.class_frequencies)[:, None]
    assert model.elbo(DATA.images, seed=0) == pytest.approx(logsumexp(by_class, axis=0))
    assert (model.elbo(DATA.images, seed=0) >= np.max(by_class, axis=0) - 1e-9).all()


def test_observation_noise_has_the_decoder_s_scale() -> None:
    net = network()
    parameters = torch.cat([torch.zeros(5000, 1, 2, 2), torch.full((5000, 1, 2, 2), -2.0)], dim=1)
    drawn = net.observation.drawn(parameters, Noise(0).uniform(5000, 1, 2, 2))
    assert float(drawn.std()) == pytest.approx(np.exp(-2) * np.pi / np.sqrt(3), rel=0.03)
    assert torch.equal(net.observation.mean(parameters), torch.zeros(5000, 1, 2, 2))


@pytest.mark.parametrize("hierarchy", [1, 2])
def test_a_lower_temperature_draws_codes_closer_to_the_prior_s_mean(hierarchy: int) -> None:
    def codes_at(temperature: float) -> Tensor:
        config = {"width": 4, "levels": 1, "latent_dim": 3, "hierarchy": hierarchy, "temperature": temperature}
        model = VAE(VAEConfig.model_validate(config))
        model.fit(DATA, training=TrainingConfig(steps=2), seed=0)
        with torch.inference_mode():
            return model.network.draw_codes(torch.zeros(20_000, dtype=torch.int64), Noise(0), temperature)

    # The last coordinates belong to the top layer, whose prior is a Gaussian of its own.
    warm, cool = codes_at(1.0)[:, -3:], codes_at(0.5)[:, -3:]
    torch.testing.assert_close(cool.std(0), 0.5 * warm.std(0))
    torch.testing.assert_close(cool.mean(0), warm.mean(0), atol=0.01, rtol=0)


def test_an_unconditional_model_ignores_labels() -> None:
    model = VAE(VAEConfig(width=4, levels=1, latent_dim=2, conditional=False))
    model.fit(DATA, training=TrainingConfig(steps=5), seed=0)
    assert model.sample(3, seed=0).labels is None
    assert not model.network.prior_mean.requires_grad
    assert model.encode(DATA).tolist() == model.encode(ImageSet(DATA.images)).tolist()


class LinearGaussian(VAENetwork):
    """p(z) = N(0, I), p(x | z) = N(W z + b, σ² I): probabilistic PCA, whose log p(x) and posterior are known."""

    def __init__(self, weight: Tensor, widened: float) -> None:
        super().__init__(VAEConfig(width=4, levels=1, latent_dim=2, conditional=False), (1, 2, 2), 0)
        self.weight, self.offset, self.log_variance = weight, torch.tensor([0.1, -0.2, 0.0, 0.3]), torch.tensor(-2.5)
        precision = torch.eye(2) + weight.T @ weight / self.log_variance.exp()
        self.gain = torch.linalg.solve(precision, weight.T / self.log_variance.exp())
        # The best diagonal covariance is the inverse of the precision's diagonal; times `widened` it is a worse one.
        self.posterior_log_variance = torch.log(widened / precision.diagonal())

    def encode(self, x: Tensor, y: Tensor | None) -> Gaussian:
        mean = (x.flatten(1) - self.offset) @ self.gain.T
        return mean, self.posterior_log_variance.expand_as(mean)

    def decode(self, z: Tensor, y: Tensor | None) -> Tensor:
        return z @ self.weight.T + self.offset

    def log_likelihood(self, x: Tensor, parameters: Tensor) -> Tensor:
        return gaussian_log_prob(x.flatten(1), parameters, self.log_variance).sum(1)

    def log_prob(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        covariance = self.weight @ self.weight.T + self.log_variance.exp() * torch.eye(4)
        x = to_float(torch.from_numpy(images)).flatten(1)
        return np.asarray(multivariate_normal(self.offset.numpy(), covariance.numpy()).logpdf(x.numpy()))


ORTHOGONAL = torch.tensor([[0.4, 0.1], [0.3, -0.2], [0.2, 0.1], [0.0, 0.4]])
OBLIQUE = torch.tensor([[0.5, 0.3], [0.4, 0.1], [-0.1, 0.3], [0.2, 0.4]])


def linear_gaussian(weight: Tensor, widened: float) -> VAE:
    model = VAE(VAEConfig(conditional=False, latent_dim=2))
    model.shape, model.network = (1, 2, 2), LinearGaussian(weight, widened)
    return model


def test_bounds_of_a_linear_gaussian_vae_rise_to_its_likelihood_in_closed_form() -> None:
    model = linear_gaussian(OBLIQUE, widened=1.3)
    images = np.random.default_rng(0).integers(0, 256, (400, 1, 2, 2), np.uint8)
    log_p = model.network.log_prob(images).mean()
    bounds = {k: model.elbo(images, importance_samples=k).mean() for k in (1, 5, 50, 500)}
    assert bounds[1] < bounds[5] < bounds[50] < bounds[500] < log_p + 2e-3
    assert log_p - bounds[5] < 0.6 * (log_p - bounds[1]) and bounds[500] == pytest.approx(log_p, abs=5e-3)


def test_the_exact_posterior_makes_every_draw_s_bound_the_likelihood_itself() -> None:
    assert float(ORTHOGONAL[:, 0] @ ORTHOGONAL[:, 1]) == pytest.approx(0, abs=1e-7)
    model = linear_gaussian(ORTHOGONAL, widened=1.0)
    images = np.random.default_rng(1).integers(0, 256, (50, 1, 2, 2), np.uint8)
    for seed in range(3):
        assert model.elbo(images, seed=seed) == pytest.approx(model.network.log_prob(images), abs=2e-5)


def ladder(**config: object) -> LadderNetwork:
    chosen = {"width": 4, "levels": 1, "latent_dim": 1, "top_dim": 1, "hierarchy": 2, "likelihood": "bernoulli"}
    with seeded(0):
        net = LadderNetwork(VAEConfig.model_validate({**chosen, **config}), (1, 2, 2), 0)
        for parameter in net.ladder.parameters():  # far from N(0, 1), so that the layers have something to say
            parameter.data.mul_(2)
    return net


def test_the_ladder_s_bound_falls_short_of_the_likelihood_by_the_divergence_of_both_layers() -> None:
    net = ladder()
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand(1, 1, 2, 2)
    side, cell = torch.linspace(-9, 9, 361), (18 / 360) ** 2
    with torch.inference_mode():
        z1, z2 = (part.reshape(-1, 1) for part in torch.meshgrid(side, side, indexing="ij"))
        prior = gaussian_log_prob(z1, *net.ladder.downward(z2, None)) + gaussian_log_prob(z2, *net.prior(None))
        parameters = net.decode(torch.cat([z1, z2], dim=1), None)
        joint = (prior[:, 0] + net.log_likelihood(x.expand(len(z1), -1, -1, -1), parameters)).double()
        log_p = float(torch.logsumexp(joint, 0)) + np.log(cell)
        mean, log_variance, handed_up = net.features(x, None).tensor_split([1, 2], dim=1)
        lower = precision_weighted((mean, log_variance), net.ladder.downward(z2, None))
        log_q = gaussian_log_prob(z1, *lower) + gaussian_log_prob(z2, *net.ladder.upward(handed_up))
        q = log_q[:, 0].double()
        gap = float((q.exp() * (q - (joint - log_p))).sum() * cell)
        many = x.expand(20_000, -1, -1, -1)
        reconstruction, kl = net.elbo_terms(many, None, Noise(0))
        weights = net.log_weight(many, None, Noise(1)).double()
    elbo = float((reconstruction - kl).double().mean())
    assert float(q.exp().sum() * cell) == pytest.approx(1, abs=1e-4)
    assert gap > 0.05 and elbo == pytest.approx(log_p - gap, abs=2e-3)
    assert float(weights.mean()) == pytest.approx(elbo, abs=0.02)
    # E_q p(x, z) / q(z | x) = p(x).
    assert float(torch.logsumexp(weights, 0)) - np.log(20_000) == pytest.approx(log_p, abs=0.02)


def test_a_ladder_samples_infers_and_decodes_both_layers() -> None:
    model = VAE(VAEConfig(width=4, levels=1, latent_dim=3, top_dim=2, hierarchy=2))
    history = model.fit(DATA, validation=DATA, training=TrainingConfig(steps=10), seed=0)
    z = model.encode(DATA)
    assert z.shape == (120, 5) and len(history.facts["kl_per_unit"]) == 5
    moved = z.copy()
    moved[:, 4] += 3
    decoded, other = (model.decode(codes, condition=DATA.labels).images for codes in (z, moved))
    assert decoded.shape == DATA.images.shape and (decoded != other).any(axis=(1, 2, 3)).mean() > 0.9
    x, y = to_float(torch.from_numpy(DATA.images)), torch.from_numpy(DATA.labels)
    with torch.inference_mode():
        layers = model.network.infer(x, y, None)
        means = [layer.posterior[0] for layer in layers]
    assert np.array_equal(torch.cat(means, dim=1).numpy(), z) and torch.equal(codes(layers), torch.cat(means, dim=1))
    assert model.sample(4, condition=1, seed=0).labels.tolist() == [1] * 4


def test_free_bits_cost_nothing_and_pull_nothing() -> None:
    x = to_float(torch.from_numpy(DATA.images))
    with seeded(0):
        net = VAENetwork(VAEConfig(width=4, levels=1, latent_dim=4, beta=2.0), DATA.shape, 0)
    with torch.no_grad():
        mean, log_variance = net.encode(x, None)
        spent = (0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)).mean(0)

    def values(free: float) -> dict[str, Tensor]:
        net.config = net.config.model_copy(update={"free_bits": free})
        return net.loss(Batch(x, None, 0, Noise(1)))

    def pull(name: str, free: float) -> Tensor:
        gradients = torch.autograd.grad(values(free)[name], list(net.encoder.parameters()))
        return torch.cat([gradient.flatten() for gradient in gradients])

    some = float(spent.sort().values[1:3].mean())  # two coordinates spend more than that, two less
    found = {key: float(value.detach()) for key, value in values(some).items()}
    assert found["loss"] == pytest.approx((found["reconstruction"] + 2 * float(spent.clamp(min=some).sum())) / 64)
    assert found["kl"] == pytest.approx(float(spent.sum()), rel=1e-5)
    assert (found["kl_min"], found["kl_max"]) == pytest.approx((float(spent.min()), float(spent.max())), rel=1e-5)
    plenty = 2 * float(spent.max())
    torch.testing.assert_close(pull("loss", plenty) * 64, pull("reconstruction", plenty))
    assert not torch.allclose(pull("loss", some) * 64, pull("reconstruction", some))


def test_training_on_the_iwae_bound_descends_minus_that_bound() -> None:
    net = network(likelihood="bernoulli", train_importance_samples=4)
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand(64, 1, 2, 2)
    net.train()
    with torch.no_grad():
        loss = float(net.loss(Batch(x, None, 0, Noise(5)))["loss"])
        noise = Noise(5)
        net.observed(x, noise), net.weigh(x, None, noise)
        weights = torch.stack([net.log_weight(x, None, noise) for _ in range(4)])
    assert loss == pytest.approx(-float((torch.logsumexp(weights, 0) - np.log(4)).mean()) / 4, rel=1e-5)
    net.eval()
    with torch.no_grad():
        values = net.loss(Batch(x, None, 0, Noise(5)))
    assert float(values["loss"]) == pytest.approx(float(values["negative_elbo"]) / 4, rel=1e-6)


@pytest.mark.parametrize("other", [{"beta": 2.0}, {"kl_warmup_steps": 5}, {"free_bits": 0.1}])
def test_the_iwae_bound_has_no_kl_term_to_weigh(other: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="set beta to 1, kl_warmup_steps and free_bits to 0"):
        VAEConfig.model_validate({"train_importance_samples": 5, **other})


def collapsed(caplog: pytest.LogCaptureFixture, **config: float) -> tuple[dict[str, object], bool]:
    caplog.clear()
    model = VAE(VAEConfig.model_validate({"width": 8, "levels": 1, "latent_dim": 4, "conditional": False, **config}))
    budget = TrainingConfig(steps=150, learning_rate=5e-3, validate_every=50)
    history = model.fit(DATA, validation=DATA, training=budget, seed=0)
    frame = history.frame().query("split == 'validation'").pivot(index="step", columns="name", values="value")
    assert frame["active_units"].iloc[-1] == history.facts["active_units"]
    assert history.facts["kl_per_unit"] == pytest.approx(
        np.clip(history.facts["kl_per_unit"], frame["kl_min"].iloc[-1] - 0.02, frame["kl_max"].iloc[-1] + 0.02)
    )
    return history.facts, "the posterior has collapsed" in caplog.text and "free_bits" in caplog.text


def test_a_collapsed_posterior_is_told_once_with_its_remedy_and_free_bits_are_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    facts, warned = collapsed(caplog, beta=300.0)
    assert facts["active_units"] == 0 and max(facts["kl_per_unit"]) < 0.05 and warned
    assert caplog.text.count("collapsed") == 1
    VAE(VAEConfig(width=4, beta=300.0)).fit(DATA, training=TrainingConfig(steps=5), seed=0)
    assert caplog.text.count("collapsed") == 1, "a fit without validation is one of many"
    facts, warned = collapsed(caplog, beta=300.0, free_bits=0.5)
    assert facts["active_units"] == 4 and min(facts["kl_per_unit"]) > 0.3 and not warned
    facts, warned = collapsed(caplog, beta=1.0)
    assert facts["active_units"] >= 2 and not warned


def test_a_conditional_model_says_that_it_needs_labels_to_infer() -> None:
    model = VAE(VAEConfig(width=4, levels=1, latent_dim=2))
    model.fit(DATA, training=TrainingConfig(steps=2), seed=0)
    with pytest.raises(SimulacraError, match="infers z from an image and its label"):
        model.encode(ImageSet(DATA.images))


SHARED = """
import json, sys
from pathlib import Path

def main():
    from simulacra.data.fabricate import fabricate_images
    from simulacra.models.vae import VAE, VAEConfig
    from simulacra.training.config import TrainingConfig

    data = fabricate_images(n=240, size=8, channels=1, n_classes=2, seed=0)
    losses = {}
    for processes in (1, 2):
        model = VAE(VAEConfig(width=4, levels=1, latent_dim=4, beta=3.0, free_bits=0.2, hierarchy=2, top_dim=2))
        training = TrainingConfig(steps=30, batch_size=32, log_every=1, processes=processes, precision="fp32")
        history = model.fit(data, validation=data, training=training, seed=0)
        points = [point for point in history.points if point["name"] == "loss" and point["split"] == "train"]
        losses[processes] = [point["value"] for point in points]
        assert len(history.facts["kl_per_unit"]) == 6
    print(json.dumps(losses))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_two_processes_free_the_bits_that_one_frees(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SHARED)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = json.loads(done.stdout.splitlines()[-1]).values()
    assert len(one) == 30 and two == pytest.approx(one, rel=1e-3)
    assert two[:5] == pytest.approx(one[:5], rel=1e-5)
