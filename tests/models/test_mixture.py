import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture as Reference

from simulacra.errors import SimulacraError
from simulacra.models import mixture as module
from simulacra.models.mixture import FactorMixture, Mixture, Prior, em, fit_mixture, information


def blobs(n: int = 300, dim: int = 4) -> np.ndarray:
    """Three overlapping clusters, each with correlations of its own."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n // 3, dim)) @ rng.normal(size=(dim, dim)) + 2 * rng.normal(size=dim) for _ in range(3)]
    return rng.permutation(np.concatenate(parts))


def analysers(k: int = 2, dim: int = 5, q: int = 2) -> FactorMixture:
    rng = np.random.default_rng(1)
    variances = rng.uniform(0.2, 1.5, (k, dim))
    return FactorMixture(rng.dirichlet(np.ones(k)), rng.normal(size=(k, dim)), rng.normal(size=(k, dim, q)), variances)


def beginning(z: np.ndarray, covariance: str) -> tuple[Mixture, dict[str, np.ndarray]]:
    """A poor start, as this module's mixture and as scikit-learn's arguments."""
    k, dim = 3, z.shape[1]
    weights, means = np.array([0.2, 0.3, 0.5]), z[:3].copy()
    given = {"weights_init": weights, "means_init": means}
    if covariance == "diag":
        start: Mixture = FactorMixture(weights, means, np.zeros((k, dim, 0)), np.ones((k, dim)))
        return start, given | {"precisions_init": np.ones((k, dim))}
    shape = (1, dim, dim) if covariance == "tied" else (k, dim, dim)
    precisions = np.eye(dim) if covariance == "tied" else np.tile(np.eye(dim), (k, 1, 1))
    return Mixture(weights, means, np.broadcast_to(np.eye(dim), shape)), given | {"precisions_init": precisions}


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
def test_em_agrees_with_scikit_learn_from_the_same_start(covariance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 70)  # sums over five parts
    z = blobs()
    start, given = beginning(z, covariance)
    reference = Reference(3, covariance_type=covariance, reg_covar=1e-3, max_iter=12, tol=0, **given).fit(z)
    found, curve = em(z, start, prior=Prior(1e-3), max_iter=12, tolerance=-1)
    covariances = reference.covariances_
    if covariance == "diag":
        covariances = covariances[:, None, :] * np.eye(4)
    assert found.weights == pytest.approx(reference.weights_, abs=1e-8)
    assert found.means == pytest.approx(reference.means_, abs=1e-8)
    assert found.covariances() == pytest.approx(np.broadcast_to(covariances, (3, 4, 4)), abs=1e-8)
    assert found.log_density(z) == pytest.approx(reference.score_samples(z), abs=1e-8)
    assert curve[-1] == pytest.approx(reference.lower_bound_, abs=0.1) and len(curve) == 12


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_criteria_and_free_numbers_are_scikit_learn_s(covariance: str) -> None:
    z = blobs()
    found, scores = fit_mixture(z, components=(3,), covariance=covariance, seed=0)
    reference = Reference(3, covariance_type=covariance, reg_covar=1e-4, random_state=0).fit(z)
    assert scores[3]["bic"] == pytest.approx(reference.bic(z), rel=1e-10)
    assert scores[3]["aic"] == pytest.approx(reference.aic(z), rel=1e-10)
    assert found.n_parameters() == reference._n_parameters()


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "factors"])
def test_likelihood_never_decreases(covariance: str) -> None:
    z = blobs()
    start = analysers(3, 4) if covariance == "factors" else beginning(z, covariance)[0]
    _, curve = em(z, start, max_iter=200, tolerance=-1)
    assert len(curve) == 200 and np.diff(curve).min() > -1e-10
    assert curve[-1] - curve[0] > 1


def test_posterior_never_decreases_under_the_prior() -> None:
    z = blobs(60)
    prior = Prior(variances=z.var(0), rows=7.0)

    def objective(mixture: FactorMixture) -> float:
        penalty = prior.rows / 2 * (np.log(mixture.variances) + prior.variances / mixture.variances)
        return float(mixture.log_density(z).sum() - penalty.sum())

    steps = [em(z, analysers(3, 4), prior=prior, max_iter=n, tolerance=-1)[0] for n in range(40)]
    assert np.diff([objective(step) for step in steps]).min() > -1e-9


def test_a_component_of_one_row_keeps_the_prior_s_noise() -> None:
    z = np.concatenate([np.random.default_rng(0).normal(size=(50, 3)), [[40.0, 40.0, 40.0]]])
    bare, _ = fit_mixture(z, components=(2,), covariance="factor_analysis", n_factors=1, reg_covar=1e-6)
    drawn, _ = fit_mixture(z, components=(2,), covariance="factor_analysis", n_factors=1, reg_covar=1e-6, prior_rows=5)
    lonely = int(bare.means.sum(1).argmax())
    assert bare.tensors()["variances"][lonely] == pytest.approx(1e-6, abs=1e-9)
    lonely = int(drawn.means.sum(1).argmax())
    assert drawn.tensors()["variances"][lonely] == pytest.approx(5 / 6 * z.var(0), rel=1e-3)


def test_density_of_factor_analysers_is_that_of_their_covariances() -> None:
    mixture = analysers()
    z = np.random.default_rng(2).normal(size=(40, 5)) * 3
    parts = zip(mixture.weights, mixture.means, mixture.covariances(), strict=True)
    expected = sum(weight * multivariate_normal(mean, cov).pdf(z) for weight, mean, cov in parts)
    assert mixture.log_density(z) == pytest.approx(np.log(expected), abs=1e-10)


def test_density_of_factor_analysers_integrates_to_one() -> None:
    mixture = analysers(3, 2, 1)
    axis = np.linspace(-15, 15, 601)  # sums over a grid are exact for what is smooth and vanishes at the border
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert np.exp(mixture.log_density(grid)).sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-5)


def test_one_factor_analyser_reaches_scikit_learn_s_likelihood() -> None:
    z = analysers(1, 8).sample(500, np.random.default_rng(0))
    _, curve = em(z, analysers(1, 8), max_iter=2000, tolerance=1e-12)
    reference = FactorAnalysis(2, tol=1e-10, max_iter=5000).fit(z)
    assert curve[-1] == pytest.approx(reference.score(z), abs=1e-6)


def test_factor_analysers_are_found_again() -> None:
    truth = FactorMixture(
        np.array([0.3, 0.7]),
        np.array([[-4.0] * 6, [4.0] * 6]),
        analysers(2, 6).factors,
        analysers(2, 6).variances,
    )
    z = truth.sample(10_000, np.random.default_rng(0))
    rough, _ = fit_mixture(z, components=(2,), covariance="factor_analysis", n_factors=2, reg_covar=1e-9, seed=0)
    found, _ = em(z, rough, max_iter=200, tolerance=1e-6)
    order = np.argsort(found.weights)
    assert found.weights[order] == pytest.approx(truth.weights, abs=0.02)
    assert found.means[order] == pytest.approx(truth.means, abs=0.1)
    assert found.covariances()[order] == pytest.approx(truth.covariances(), abs=0.2)
    fresh = truth.sample(5000, np.random.default_rng(1))
    assert found.log_density(fresh).mean() == pytest.approx(truth.log_density(fresh).mean(), abs=0.01)


def test_parts_of_the_data_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    z = blobs()
    whole, _ = em(z, analysers(3, 4), max_iter=10, tolerance=-1)
    monkeypatch.setattr(module, "ROWS", 41)
    parts, _ = em(z, analysers(3, 4), max_iter=10, tolerance=-1)
    assert parts.log_density(z) == pytest.approx(whole.log_density(z), abs=1e-9)
    assert information(parts, z)["bic"] == pytest.approx(information(whole, z)["bic"], abs=1e-6)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_data_of_many_rows_are_fitted_as_well_in_parts(covariance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    z = blobs(1200)
    small, _ = fit_mixture(z, components=(3,), covariance=covariance, seed=0)
    monkeypatch.setattr(module, "ROWS", 500)
    large, _ = fit_mixture(z, components=(3,), covariance=covariance, seed=0)
    assert type(large) is type(small) and large.factors.shape == small.factors.shape
    assert large.log_density(z).mean() > small.log_density(z).mean() - 0.02


def test_the_criterion_chooses() -> None:
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(centre, 0.3, (60, 2)) for centre in (-4, 0, 4)])
    chosen = {name: fit_mixture(z, components=(1, 3, 9), criterion=name)[0] for name in ("bic", "aic", "largest")}
    assert len(chosen["bic"].weights) == 3 and len(chosen["largest"].weights) == 9
    _, scores = fit_mixture(z, components=(1, 3, 9), criterion="aic")
    assert len(chosen["aic"].weights) == min(scores, key=lambda k: scores[k]["aic"])
    few, scores = fit_mixture(z[::9], components=(1, 3, 9), criterion="largest")
    assert len(few.weights) == 3 and sorted(scores) == [1, 3]  # twenty rows are too few for nine


@pytest.mark.parametrize("noise", [True, False])
def test_samples_have_the_moments(noise: bool) -> None:
    mixture = analysers()
    z = mixture.sample(200_000, np.random.default_rng(0), noise=noise)
    within = mixture.covariances() if noise else mixture.factors @ mixture.factors.transpose(0, 2, 1)
    mean = mixture.weights @ mixture.means
    spread = np.einsum("k,ki,kj->ij", mixture.weights, mixture.means - mean, mixture.means - mean)
    assert z.mean(0) == pytest.approx(mean, abs=0.02)
    assert np.cov(z.T) == pytest.approx(np.einsum("k,kij->ij", mixture.weights, within) + spread, abs=0.08)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "factor_analysis"])
def test_tensors_hold_everything(covariance: str) -> None:
    z = blobs()
    mixture, _ = fit_mixture(z, components=(2,), covariance=covariance, n_factors=2)
    again = Mixture.from_tensors(mixture.tensors())
    assert type(again) is type(mixture)
    assert (again.log_density(z) == mixture.log_density(z)).all()


def test_as_many_factors_as_a_full_covariance_has_numbers() -> None:
    full = Mixture(np.ones(1), np.zeros((1, 3)), np.eye(3)[None])
    assert analysers(1, 3, 1).n_parameters() == full.n_parameters() == 9


def test_too_few_rows_are_named() -> None:
    with pytest.raises(SimulacraError, match="3 rows are too few for 4 components"):
        fit_mixture(np.zeros((3, 2)), components=(4, 8))


@pytest.mark.parametrize("covariance", ["full", "factor_analysis"])
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_rows_that_are_all_alike_have_a_finite_density(covariance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 15)
    mixture, scores = fit_mixture(np.ones((20, 3)), components=(1, 3), covariance=covariance, n_factors=1)
    assert np.isfinite(mixture.log_density(np.ones((2, 3)))).all()
    assert np.isfinite([list(score.values()) for score in scores.values()]).all()
