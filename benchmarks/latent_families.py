"""What the density of the codes is worth: sample metrics of autoencoder and VAE variants by the one evaluator.

Run from the project's root, on an otherwise quiet machine:

    python benchmarks/latent_families.py --dataset mnist --seeds 0 1 2

Each row is fitted anew with each seed, with the budget that `kedro run` has in the environment.
"""

import argparse
import time
from typing import Any, NamedTuple

import numpy as np

from simulacra.data.config import SplitConfig
from simulacra.data.image_set import join
from simulacra.data.images import load_images
from simulacra.data.split import stratified_split
from simulacra.experiments import ExperimentConfigLoader, merge, project_root
from simulacra.metrics.features import NetworkExtractor
from simulacra.metrics.judge import Judge
from simulacra.models import family_class
from simulacra.pipelines.config import EvaluationConfig, FamilyConfig, SourceConfig
from simulacra.pipelines.evaluate.nodes import train_extractor
from simulacra.settings import CONFIG_LOADER_ARGS


class Row(NamedTuple):
    """A line of the table: a family, and the hyper-parameters in which it differs from its defaults."""

    family: str
    changes: dict[str, Any]


ROWS = {
    "autoencoder, mixture a class": Row("autoencoder", {"prior": "gmm"}),
    "autoencoder, flow by class": Row("autoencoder", {"prior": "flow"}),
    "autoencoder, N(0, I)": Row("autoencoder", {"prior": "normal"}),
    "autoencoder, N(0, I) on raw codes": Row("autoencoder", {"prior": "normal", "standardise": False}),
    "vae": Row("vae", {}),
    "vae, two layers": Row("vae", {"hierarchy": 2}),
}
COLUMNS = ("fd_classifier", "class_accuracy", "precision", "recall")


def main() -> None:
    """Print a line a fit, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--env", default="base")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    options = parser.parse_args()
    loader = ExperimentConfigLoader(str(project_root() / "conf"), env=options.env, **CONFIG_LOADER_ARGS)
    parameters = dict(loader["parameters"])[options.dataset]
    images, _ = load_images(SourceConfig.model_validate(parameters["source"]).root)
    parts = stratified_split(images, SplitConfig.model_validate(parameters["split"]))
    evaluation = EvaluationConfig.model_validate(parameters["evaluation"])
    extractor, record = train_extractor(parts.train, parts.validation, parts.test, evaluation, 0)
    features = NetworkExtractor(extractor.network, name=record["name"], channels=extractor.in_channels)
    n, lines = parameters["generation"]["n"], []
    judge = Judge([features], parts.validation, parts.test, n_generated=n, neighbours=evaluation.neighbours)
    print(
        f"real images against real ones: {judge.floor([0, 1, 2])['metrics']['fd_classifier']['value']:.2f}", flush=True
    )
    for name in options.rows:
        row, values, seconds = ROWS[name], [], []
        config = FamilyConfig.model_validate(merge(parameters, {row.family: {"model": row.changes}}, key=row.family))
        for seed in options.seeds:
            model = family_class(row.family)(family_class(row.family).Config.model_validate(config.model))
            began = time.perf_counter()
            model.fit(parts.train, validation=parts.validation, training=config.training, seed=seed)
            seconds.append(time.perf_counter() - began)
            samples = join((model.sample(n, seed=each) for each in (0, 1, 2)), 3 * n)
            metrics = judge.family(model, samples, [0, 1, 2], ema=None)["metrics"]
            values.append([metrics[key]["value"] if key in metrics else np.nan for key in COLUMNS])
            print(f"{name}, seed {seed}: {np.round(values[-1], 3).tolist()}, {seconds[-1]:.0f} s", flush=True)
        cells = [
            f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(np.mean(values, 0), np.std(values, 0), strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {np.median(seconds):.0f} |")
    print("\n".join([f"| row | {' | '.join(COLUMNS)} | seconds |", "|---" * (len(COLUMNS) + 2) + "|", *lines]))


if __name__ == "__main__":
    main()
