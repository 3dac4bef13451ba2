import itertools

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.models.vae import VAE, VAEConfig, VAENetwork
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
    drawn = net.drawn_image(parameters, Noise(0))
    assert float(drawn.std()) == pytest.approx(np.exp(-2) * np.pi / np.sqrt(3), rel=0.03)
    assert torch.equal(net.mean_image(parameters), torch.zeros(5000, 1, 2, 2))


def test_an_unconditional_model_ignores_labels() -> None:
    model = VAE(VAEConfig(width=4, levels=1, latent_dim=2, conditional=False))
    model.fit(DATA, training=TrainingConfig(steps=5), seed=0)
    assert model.sample(3, seed=0).labels is None
    assert not model.network.prior_mean.requires_grad
    assert model.encode(DATA).tolist() == model.encode(ImageSet(DATA.images)).tolist()
