"""How often the gate lets chance through, and a real improvement, by trainings that differ in their seed alone.

    pip install -c requirements.lock -e .
    python benchmarks/gate.py measure runs.json [--families gmm vae] [--trainings 12] [--seconds 300] [--params ...]
    python benchmarks/gate.py decide runs.json [--decisions 2000] [--challengers 1 3]

`measure` fits each family several times to the embedded digits, judges every fit by the project's evaluator, and writes
the metrics records as JSON. `decide` prints how much of each metric is due to the seed of the training, and draws
champions and challengers from those records: fits of one family, whose promotion is false; and the same with the first
challenger's ranking metric made better by twice the usual margin, which should be promoted. The noise that the gate is
told is the one of conf/base, and, beside it, what the fits show that were not drawn.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import OmegaConf

from simulacra.data.config import SplitConfig
from simulacra.data.image_set import join
from simulacra.data.images import load_images
from simulacra.data.split import Split, stratified_split
from simulacra.experiments import ExperimentConfigLoader, project_root
from simulacra.metrics import METRICS, ranked_by
from simulacra.metrics.cache import FeatureCache
from simulacra.metrics.features import NetworkExtractor
from simulacra.metrics.judge import Judge
from simulacra.metrics.passport import summarise
from simulacra.models import family_class
from simulacra.pipelines.config import EvaluationConfig, FamilyConfig, SourceConfig
from simulacra.pipelines.evaluate.nodes import train_extractor
from simulacra.retraining.config import GateConfig, RetrainingConfig
from simulacra.retraining.gate import Candidate, GateDecision, judge
from simulacra.settings import CONFIG_LOADER_ARGS

Record = dict[str, Any]
SAMPLE_SEEDS = 3
FEWEST_LEFT = 4
"""Fits from which noise is measured, at least."""


def measure(options: argparse.Namespace) -> None:
    """Write the records of all fits."""
    said = OmegaConf.to_container(OmegaConf.from_dotlist(options.params.split(",") if options.params else []))
    loader = ExperimentConfigLoader(str(project_root() / "conf"), env="base", runtime_params=said, **CONFIG_LOADER_ARGS)
    parameters = dict(loader["parameters"])["mnist"]
    images, _ = load_images(SourceConfig.model_validate(parameters["source"]).root)
    parts = stratified_split(images, SplitConfig.model_validate(parameters["split"]))
    judging = make_judge(
        parts, EvaluationConfig.model_validate(parameters["evaluation"]), parameters["generation"]["n"]
    )
    seeds = list(range(SAMPLE_SEEDS))
    kept: Record = {"floor": judging.floor(seeds), "noise": judging.noise(seeds), "families": {}}
    began = time.perf_counter()
    for place, name in enumerate(options.families, 1):
        until = began + options.seconds * place / len(options.families)
        config = FamilyConfig.model_validate(parameters[name])
        kept["families"][name] = list(fits(config, judging, parts, options.trainings, until))
        options.runs.write_text(json.dumps(kept))


def make_judge(parts: Split, evaluation: EvaluationConfig, n: int) -> Judge:
    """Return the evaluator, by an extractor that is trained as `kedro run` trains it."""
    extractor, told = train_extractor(parts.train, parts.validation, parts.test, evaluation, 0)
    print(f"extractor: accuracy {told['test_accuracy']:.3f}", flush=True)
    features = NetworkExtractor(
        extractor.network, name=told["name"], channels=extractor.in_channels, cache=FeatureCache()
    )
    return Judge(
        [features],
        parts.validation,
        parts.test,
        n_generated=n,
        neighbours=evaluation.neighbours,
        train=parts.train,
    )


def fits(config: FamilyConfig, judging: Judge, parts: Split, trainings: int, until: float) -> Iterator[Record]:
    """Yield the record of every fit that begins in time."""
    family = family_class(config.family)
    for seed in range(trainings):
        start = time.perf_counter()
        if start > until:
            print(f"{config.family}: out of time after {seed} fits")
            return
        model: Any = family(family.Config.model_validate(config.model))
        model.fit(parts.train, validation=parts.validation, training=config.training, seed=seed)
        seconds = time.perf_counter() - start
        # No two fits share a seed of their samples.
        seeds = [1000 * seed + repetition for repetition in range(SAMPLE_SEEDS)]
        samples = join((model.sample(judging.n, seed=each) for each in seeds), judging.n * SAMPLE_SEEDS)
        record = judging.family(model, samples, seeds, ema=None)
        print(
            f"{config.family} {seed}: fitted in {seconds:.1f} s, {time.perf_counter() - start:.1f} s in all", flush=True
        )
        yield record


def decide(options: argparse.Namespace) -> None:
    """Print how many of the drawn decisions promote, where nothing is better and where one challenger is."""
    kept = json.loads(options.runs.read_text())
    block = yaml.safe_load((project_root() / "conf/base/parameters/retraining.yml").read_text())["retraining"]
    given = RetrainingConfig.model_validate(block).gate
    for name, records in kept["families"].items():
        print_noise(name, records)
    print(f"\n{options.decisions} decisions a cell, confidence {given.confidence:.0%}, seed {options.seed}")
    print("| family | challengers | noise told | usual margin | promoted by chance, % | of twice the margin, % |")
    print("|---|---|---|---|---|---|")
    for name, records in kept["families"].items():
        for n_challengers in options.challengers:
            for left_out in (False, True):
                if len(records) - 1 - n_challengers < (FEWEST_LEFT if left_out else 0):
                    continue
                draw = Draw(records, kept["floor"], given, n_challengers, left_out)
                margin = draw.usual_margin()
                shares = (draw.promoted(gain * margin, options.decisions, options.seed) for gain in (0, 2))
                cells = " | ".join(f"{100 * share:.1f}" for share in shares)
                told = "by the other fits" if left_out else "conf/base"
                print(f"| {name} | {n_challengers} | {told} | {margin:.2f} | {cells} |", flush=True)


def training_noise(records: Sequence[Record]) -> dict[str, float]:
    """Return how much each metric varies by the seed of the training alone, as a share of its mean.

    That is the variance of the means over seeds of samples, less what those seeds themselves bring into it.
    """
    noise = {}
    for metric in records[0]["metrics"]:
        table = per_seed(records, metric)
        variance = table.mean(axis=1).var(ddof=1) - table.var(axis=1, ddof=1).mean() / table.shape[1]
        noise[metric] = float(np.sqrt(max(variance, 0.0)) / max(abs(table.mean()), 1e-12))
    return noise


def per_seed(records: Sequence[Record], metric: str) -> Any:
    """Return a metric's values, (trainings, seeds of samples)."""
    return np.array([record["metrics"][metric]["per_seed"] for record in records])


def print_noise(name: str, records: Sequence[Record]) -> None:
    """Print a row a metric: its mean, and how much it varies by the seed of the training and by that of the samples."""
    print(f"\n{name}, {len(records)} trainings\n| metric | mean | by training seed, % | by sample seed, % |")
    print("|---|---|---|---|")
    for metric, relative in training_noise(records).items():
        table = per_seed(records, metric)
        sampled = np.sqrt(table.var(axis=1, ddof=1).mean()) / max(abs(table.mean()), 1e-12)
        print(f"| {metric} | {table.mean():.4g} | {100 * relative:.1f} | {100 * sampled:.1f} |")


class Draw:
    """Champions and challengers drawn from the fits of one family.

    Args:
        records: of the fits.
        floor: the record of real data.
        given: the gate's limits.
        n_challengers: beside the champion.
        left_out: whether the noise that the gate is told is that of the fits that were not drawn.
    """

    def __init__(
        self, records: Sequence[Record], floor: Record, given: GateConfig, n_challengers: int, left_out: bool
    ) -> None:
        self.records, self.floor, self.given = records, floor, given
        self.n_challengers, self.left_out = n_challengers, left_out
        self.by = ranked_by(records[0]["metrics"])

    def decision(self, drawn: Sequence[int], gain: float = 0.0) -> GateDecision:
        """Return the decision on a champion, the first, and challengers, of which the first is better by the gain."""
        config = self.given
        if self.left_out:
            rest = [record for place, record in enumerate(self.records) if place not in drawn]
            config = config.model_copy(update={"noise": training_noise(rest), "noise_trainings": len(rest)})
        challengers = [
            Candidate(f"new {i}", self._better(self.records[place], gain if i == 0 else 0.0))
            for i, place in enumerate(drawn[1:])
        ]
        return judge(Candidate("old", self.records[drawn[0]]), challengers, config, floor=self.floor)

    def usual_margin(self) -> float:
        """Return what the ranking metric must become better by, the mean over all fits in turn as champions."""
        n = len(self.records)
        drawn = [[(i + j) % n for j in range(self.n_challengers + 1)] for i in range(n)]
        checks = [check for each in drawn for check in self.decision(each).checks if check.check == "improvement"]
        return float(np.mean([check.margin for check in checks]))

    def promoted(self, gain: float, n: int, seed: int) -> float:
        """Return the share of n decisions that promote the first challenger, or, where nothing is better, any."""
        rng, promoted = np.random.default_rng(seed), 0
        for _ in range(n):
            drawn = rng.permutation(len(self.records))[: self.n_challengers + 1].tolist()
            winner = self.decision(drawn, gain).winner
            promoted += winner == "new 0" if gain else winner is not None
        return promoted / n

    def _better(self, record: Record, gain: float) -> Record:
        sign = 1 if METRICS[self.by].better == "lower" else -1
        shifted = [value - sign * gain for value in record["metrics"][self.by]["per_seed"]]
        return record | {"metrics": record["metrics"] | {self.by: summarise(shifted)}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    measuring, deciding = commands.add_parser("measure"), commands.add_parser("decide")
    for command in (measuring, deciding):
        command.add_argument("runs", type=Path, help="JSON file of the records")
    measuring.add_argument("--families", nargs="+", default=["gmm", "vae"])
    measuring.add_argument("--trainings", type=int, default=12)
    measuring.add_argument("--seconds", type=float, default=300, help="after which no fit begins")
    measuring.add_argument(
        "--params", default="", help="as of kedro run, such as generation.n=500,vae.training.steps=99"
    )
    measuring.set_defaults(run=measure)
    deciding.add_argument("--decisions", type=int, default=2000)
    deciding.add_argument("--challengers", type=int, nargs="+", default=[1, 3])
    deciding.add_argument("--seed", type=int, default=0)
    deciding.set_defaults(run=decide)
    chosen = parser.parse_args()
    chosen.run(chosen)
