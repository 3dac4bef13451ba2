"""How the evaluator answers to real images made worse by degrees, and to training images in the place of samples.

    pip install -c requirements.lock -e .
    python benchmarks/evaluator.py [--dataset fashion_mnist] [--seeds 0 1 2]

The extractor is trained as `kedro run` trains it; every seed deals the held-out images anew. The memorised share is
told of training images, which is to be 1, and of held-out ones, which is to be about 0.01.
"""

import argparse

import numpy as np

from simulacra.data.config import SplitConfig
from simulacra.data.images import load_images
from simulacra.data.split import stratified_split
from simulacra.experiments import ExperimentConfigLoader, project_root
from simulacra.metrics.cache import FeatureCache
from simulacra.metrics.corruptions import CORRUPTIONS, rises
from simulacra.metrics.features import NetworkExtractor
from simulacra.metrics.judge import Judge
from simulacra.pipelines.config import EvaluationConfig, SourceConfig
from simulacra.pipelines.evaluate.nodes import train_extractor
from simulacra.settings import CONFIG_LOADER_ARGS


def main() -> None:
    """Print a row a way of harming images, and the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    loader = ExperimentConfigLoader(str(project_root() / "conf"), env="base", **CONFIG_LOADER_ARGS)
    parameters = dict(loader["parameters"])[options.dataset]
    images, _ = load_images(SourceConfig.model_validate(parameters["source"]).root)
    parts = stratified_split(images, SplitConfig.model_validate(parameters["split"]))
    evaluation = EvaluationConfig.model_validate(parameters["evaluation"])
    extractor, record = train_extractor(parts.train, parts.validation, parts.test, evaluation, 0)
    features = NetworkExtractor(
        extractor.network, name=record["name"], channels=extractor.in_channels, cache=FeatureCache()
    )
    judge = Judge(
        [features],
        parts.validation,
        parts.test,
        n_generated=parameters["generation"]["n"],
        neighbours=evaluation.neighbours,
        train=parts.train,
    )
    found = [judge.responses(seed)["curves"] for seed in options.seeds]
    print(f"{options.dataset}, {judge.n} images a side, seeds {options.seeds}; accuracy {record['test_accuracy']:.3f}")
    print("| made worse by | level: FD, mean of seeds | rises, seeds |\n|---|---|---|")
    for name, curve in found[0].items():
        values = np.array([[value for _, value in each[name]] for each in found])
        told = ", ".join(
            f"{level:g}: {value:.2f}" for (level, _), value in zip(curve, values.mean(axis=0), strict=True)
        )
        n_rising = sum(rises(each[name]) for each in found)
        print(f"| {CORRUPTIONS[name].title} ({CORRUPTIONS[name].unit}) | {told} | {n_rising} of {len(found)} |")
    for row in (judge.copies(options.seeds), judge.floor(options.seeds)):
        shares = ", ".join(f"{value:.3f}" for value in row["metrics"]["memorised"]["per_seed"])
        print(f"memorised share of {row['row']}: {shares}")


if __name__ == "__main__":
    main()
