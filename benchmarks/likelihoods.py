"""Held-out bits per dimension of every family with a likelihood, fitted anew with each of several seeds.

Run from the project's root, on an otherwise quiet machine:

    python benchmarks/likelihoods.py --dataset fashion_mnist --env base

Budgets are those that `kedro run` has in the environment. Rows that differ from a family's defaults stand in ROWS.
"""

import argparse
import time
from typing import Any, NamedTuple

import numpy as np

from simulacra.data.config import SplitConfig
from simulacra.data.images import load_images
from simulacra.data.split import stratified_split
from simulacra.experiments import ExperimentConfigLoader, merge, project_root
from simulacra.metrics.likelihood import bits_per_dim
from simulacra.models import family_class
from simulacra.pipelines.config import FamilyConfig, SourceConfig
from simulacra.settings import CONFIG_LOADER_ARGS


class Row(NamedTuple):
    """A line of the table: a family, and the hyper-parameters in which it differs from its defaults."""

    family: str
    changes: dict[str, Any]


ROWS = {
    "pixelcnn": Row("pixelcnn", {}),
    "flow: glow": Row("flow", {"architecture": "glow"}),
    "flow: realnvp": Row("flow", {"architecture": "realnvp"}),
    "gmm": Row("gmm", {}),
    "vae": Row("vae", {}),
    "naive_bayes": Row("naive_bayes", {}),
    # The same independence, but densities of pixels as the mixture has them: what the law of a pixel alone is worth.
    "naive_bayes: gaussian": Row("naive_bayes", {"features": "gaussian"}),
}


def main() -> None:
    """Print a line a fit, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--env", default="base")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--n-test", type=int, default=2000, help="test images whose likelihood is taken")
    options = parser.parse_args()
    parameters = configuration(options.env)[options.dataset]
    images, _ = load_images(SourceConfig.model_validate(parameters["source"]).root)
    parts = stratified_split(images, SplitConfig.model_validate(parameters["split"]))
    test = parts.test.images[: options.n_test]
    # Validation only draws a curve here: as many images as are tested are enough.
    validation = parts.validation.take(range(min(options.n_test, len(parts.validation))))
    print(f"{options.dataset}: {len(parts.train)} training images, {len(test)} of the test split", flush=True)
    lines = []
    for name in options.rows:
        row, bits = ROWS[name], []
        config = FamilyConfig.model_validate(merge(parameters, {row.family: {"model": row.changes}}, key=row.family))
        for seed in options.seeds:
            family = family_class(config.family)
            model = family(family.Config.model_validate(config.model))
            began = time.perf_counter()
            model.fit(parts.train, validation=validation, training=config.training, seed=seed)
            seconds = time.perf_counter() - began
            nats = np.logaddexp.reduce(model.joint(test, seed=seed), axis=1)
            bits.append(bits_per_dim(nats, int(np.prod(test.shape[1:]))))
            print(f"{name}, seed {seed}: {bits[-1]:.4f} bits/dim, fitted in {seconds:.0f} s", flush=True)
        assert model.likelihood
        sign = "≤ " if model.likelihood.bound else ""
        spread = f" ± {np.std(bits, ddof=1):.3f}" if len(bits) > 1 else ""
        described = model.likelihood.describe(1)
        lines.append(f"| {name} | {sign}{np.mean(bits):.3f}{spread} | {described['dequantisation']} | {seconds:.0f} |")
    print("\n".join(["| row | bits/dim | dequantisation | seconds |", "|---|---|---|---|", *lines]))


def configuration(environment: str) -> dict[str, Any]:
    """Return the expanded parameters of an environment."""
    loader = ExperimentConfigLoader(str(project_root() / "conf"), env=environment, **CONFIG_LOADER_ARGS)
    return dict(loader["parameters"])


if __name__ == "__main__":
    main()
