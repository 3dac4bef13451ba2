"""Look at today's images, judge the champion by them, and decide what becomes of its challengers."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from simulacra.errors import SimulacraError
from simulacra.incremental import skippable
from simulacra.pipelines.annotations import (
    DataFrame,
    Former,
    ImageClassifier,
    ImageModel,
    ImageSet,
    LanguageModel,
    Registry,
    TextSet,
)
from simulacra.pipelines.config import EvaluationConfig, FamilyConfig, GenerationConfig, TextFamilyConfig
from simulacra.pipelines.evaluate.nodes import make_judge
from simulacra.pipelines.generate.nodes import condition_of, drawing_record, sample_seeds
from simulacra.pipelines.report.shared import with_costs
from simulacra.retraining.config import RetrainingConfig
from simulacra.tracking.joining import parent_key, parent_run

if TYPE_CHECKING:
    from simulacra.retraining.gate import Candidate
    from simulacra.retraining.reasons import Facts
    from simulacra.retraining.registry import Version

Record = dict[str, Any]

BLOCKS: dict[str, type[FamilyConfig | TextFamilyConfig]] = {"image": FamilyConfig, "text": TextFamilyConfig}
"""What a family's parameters are, by the kind of data."""


def watch(
    train_set: ImageSet,
    validation_set: ImageSet,
    test_set: ImageSet,
    registry: Registry,
    decided: list[Record],
    retraining: RetrainingConfig,
    experiment: Record,
    parameters: Record,
    seed: int,
) -> tuple[Record, Record]:
    """Return whether it is time to train anew, which families, and every reason that was looked at; and in short.

    Both name the retraining that they belong to by the key that its runs share; null where this run has no others.

    Raises:
        SimulacraError: where a family is to be trained that the dataset does not have.
    """
    from simulacra.retraining.facts import gather

    splits = {"train": train_set, "validation": validation_set, "test": test_set}
    return look(gather, splits, registry, decided, retraining, experiment, parameters, seed)


def look(
    gather: "Callable[..., tuple[Facts, Record]]",
    splits: Mapping[str, Any],
    registry: Registry,
    decided: list[Record],
    retraining: RetrainingConfig,
    experiment: Record,
    parameters: Record,
    seed: int,
) -> tuple[Record, Record]:
    """Return what `watch` does, of the facts that `gather` finds of data of one kind."""
    from simulacra.experiments import unknown
    from simulacra.retraining.reasons import decide

    for family in retraining.families or ():
        if family not in experiment["families"]:
            raise SimulacraError(unknown("retraining.families", family, experiment["families"]))
    dataset, champion = experiment["dataset"], registry.champion()
    facts, found = gather(
        dataset,
        experiment["families"],
        champion and champion.family,
        registry.record(champion) if champion else {},
        registry.model(champion) if champion else None,
        splits,
        _settings(parameters, dataset, champion.family) if champion else "",
        seed,
    )
    decision = decide(facts, retraining)
    tried = _tried(decision.families, splits, champion, parameters, dataset, seed)
    last = decided[-1] if decided else {}
    if last.get("tried") == tried and not last["winner"] and not last["dry_run"]:
        decision = decide(replace(facts, tried=last["decided_at"]), retraining)
    told = decision.record()
    whole = told | {
        "reasons": decision.because,
        "looked_at": told["reasons"],
        "drift": found,
        "champion": champion and champion.number,
        "tried": tried,
        "key": parent_key(),
    }
    short = {"at": _now(), "new_share": facts.new_share, "p": found.get("p")}
    return whole, short | {key: whole[key] for key in ("retrain", "families", "sentence", "champion", "key")}


def _tried(
    families: Sequence[str],
    splits: Mapping[str, Any],
    champion: "Version | None",
    parameters: Record,
    dataset: str,
    seed: int,
) -> str:
    """Return the hash of all that a retraining's outcome hangs on."""
    material = {
        "families": families,
        "data": {name: part.fingerprint() for name, part in splits.items()},
        "champion": champion and champion.number,
        "parameters": {key: value for key, value in parameters[dataset].items() if key != "experiment"},
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(material, sort_keys=True, default=str).encode()).hexdigest()


def find_former(registry: Registry, split_record: Record, retraining: RetrainingConfig) -> Former:
    """Return what a training on today's data begins from, see `former_of`; none where it is to begin from scratch."""
    from simulacra.retraining.former import Former, former_of

    if retraining.start == "scratch":
        return Former()
    return former_of(registry, split_record["splits"]["train"]["fingerprint"])


def judge_champion(
    registry: Registry,
    extractor: ImageClassifier,
    extractor_record: Record,
    train_set: ImageSet,
    validation_set: ImageSet,
    test_set: ImageSet,
    generation: GenerationConfig,
    evaluation: EvaluationConfig,
    seed: int,
) -> Record:
    """Return the champion's metrics record by today's data and passport; an empty one where there is no champion.

    Raises:
        SimulacraError: where today's test images are among those that it was fitted to.
    """
    import time

    from simulacra.data.image_set import join
    from simulacra.retraining.facts import refuse_leak
    from simulacra.training.progress import announced

    champion = registry.champion()
    if champion is None:
        return {}
    record = registry.record(champion)
    refuse_leak(record["rows"], test_set)
    model, seeds = registry.model(champion), sample_seeds(seed, generation.n_seeds)
    began = time.perf_counter()
    with announced(f"champion, {champion.family}, samples"):
        samples = join((model.sample(generation.n, seed=each) for each in seeds), generation.n * len(seeds))
    cost = {"sample_ms": 1000 * (time.perf_counter() - began) / len(samples)}
    judge = make_judge(extractor, extractor_record, train_set, validation_set, test_set, generation, evaluation)
    metrics = judge.family(model, samples, seeds, ema=record["passport"]["ema"])
    return as_champion(with_costs(metrics, record["training"] | cost), champion, registry)


def as_champion(metrics: Record, champion: "Version", registry: Registry) -> Record:
    """Return the champion's metrics with what the gate asks of it."""
    previous = registry.previous()
    about = {"version": champion.number, "family": champion.family, "model_sha256": champion.model_sha256}
    about |= {"previous_sha256": previous and previous.model_sha256}
    return metrics | about


@skippable
def enter(metrics: Record, training_record: Record, generation_cost: Record, verdict: Record | None) -> Record:
    """Return what the gate looks at of one family."""
    return {
        "record": with_costs(metrics, training_record | generation_cost),
        "flags": training_record["flags"],
        "verdict": verdict,
        "train_sha256": training_record["train_sha256"],
        "model_sha256": training_record["model_sha256"],
    }


@skippable
def decide_at_gate(
    champion_record: Record,
    baselines: list[Record],
    retrain_decision: Record,
    split_record: Record,
    retraining: RetrainingConfig,
    *challengers: Record | None,
) -> tuple[Record, DataFrame, Record]:
    """Return which challenger takes over, if any, the table of all checks, and a record for the history.

    Only families that were to be trained anew stand for it, and none whose weights are the champion's own, or those of
    the champion before it: whoever took one back by hand does not want it promoted again.

    Raises:
        SimulacraError: where one of them was not trained on today's data.
    """
    from simulacra.retraining.gate import Candidate, judge, nothing_to_judge

    present = {entry["record"]["row"]: entry for entry in challengers if entry}
    candidates, notes = [], list(champion_record.get("notes", ()))
    for family in retrain_decision["families"]:
        entry = present.get(family)
        if entry is None or entry["train_sha256"] != split_record["splits"]["train"]["fingerprint"]:
            raise SimulacraError(
                f"{family} was not trained on today's data; run `kedro run --pipeline retrain`, or "
                "`kedro run --pipelines train,generate,evaluate,augment` for it"
            )
        if entry["model_sha256"] == champion_record.get("model_sha256"):
            notes.append(f"{family} is the champion itself.")
        elif entry["model_sha256"] == champion_record.get("previous_sha256"):
            notes.append(f"{family} was champion before, and comes back by `kedro champion rollback` only.")
        else:
            candidates.append(Candidate(family, entry["record"], entry["flags"], entry["verdict"]))
    champion = _champion(champion_record)
    if not candidates:
        decision = nothing_to_judge(champion, dry_run=retraining.dry_run)
    else:
        floor, noise = (next(each for each in baselines if each["role"] == role) for role in ("floor", "noise"))
        decision = judge(champion, candidates, retraining.gate, floor=floor, noise=noise, dry_run=retraining.dry_run)
    about = {"sentence": " ".join([decision.sentence, *notes]), "reasons": retrain_decision["sentence"]}
    about |= {"decided_at": _now()} | {key: retrain_decision[key] for key in ("key", "tried")}
    record = decision.record() | about
    best = min(candidates, key=lambda each: _rank(each, decision.by), default=None)
    stood = {"champion": champion, "best challenger": best}
    rows = {name: each.record["metrics"][decision.by] for name, each in stood.items() if each}
    return record, decision.frame(), record | {"rows": rows}


def take_over(
    model: ImageModel | LanguageModel,
    metrics: Record,
    training_record: Record,
    gate_record: Record,
    registry: Registry,
    train_set: ImageSet | TextSet,
    validation_set: ImageSet | TextSet,
    test_set: ImageSet | TextSet,
    split_record: Record,
    retraining: RetrainingConfig,
    experiment: Record,
    parameters: Record,
) -> Record:
    """Return the version that a family's model has become, if it won: registered, and champion unless that is to wait.

    The alias moves last, when all else is in its place.
    """
    from simulacra.retraining.facts import rows_of
    from simulacra.tracking.joining import parent_key

    family = metrics["row"]
    if gate_record["winner"] != family or retraining.dry_run:
        return {"version": None, "champion": False}
    sets = {"train": train_set, "validation": validation_set, "test": test_set}
    version = registry.register_model(
        model,
        record=metrics
        | {
            "rows": {name: rows_of(part) for name, part in sets.items()},
            "settings_sha256": _settings(parameters, experiment["dataset"], family),
            "training": training_record,
            "gate": gate_record,
            "split": split_record["splits"]["train"]["fingerprint"],
            "seed": training_record["seed"],
            "tick": parent_key() or "",
            "parent_run": parent_run(),
            "promoted_at": _now(),
        },
    )
    registry.challenge(version.number)
    if retraining.promote:
        registry.promote(version.number)
    return {"version": version.number, "champion": retraining.promote, "model_sha256": version.model_sha256}


def _settings(parameters: Record, dataset: str, family: str) -> str:
    """Return the hash of a family's parameters, which Kedro may have checked already; "" where it has none any more."""
    from simulacra.retraining.facts import settings_sha256

    block, told = parameters[dataset].get(family), BLOCKS[parameters[dataset]["experiment"]["kind"]]
    return settings_sha256(told.model_validate(block).model_dump(mode="json")) if block else ""


def report_operations(
    registry: Registry,
    schedule: Record,
    experiment: Record,
    watch_log: list[Record],
    gate_log: list[Record],
    *_: Record | None,
) -> str:
    """Return the page of operations; it waits for all promotions, and reads from the registry what came of them."""
    from simulacra.report.operations import render_operations
    from simulacra.retraining.overview import rows, sentences

    versions = [version._asdict() | {"metrics": version.metrics} for version in registry.history()]
    ticks = rows(schedule)
    return render_operations(experiment["dataset"], versions, watch_log, gate_log, sentences(schedule), ticks)


def draw_champion(registry: Registry, experiment: Record, parameters: Record) -> tuple[ImageSet, Record]:
    """Return what the champion draws, as the block `sampling` of its family asks, and a record of how it was drawn.

    Raises:
        SimulacraError: where there is no champion yet.
    """
    from simulacra.training.progress import announced

    champion = registry.need_champion()
    block = parameters[experiment["dataset"]].get(champion.family) or {"family": champion.family}
    sampling = FamilyConfig.model_validate(block).sampling
    asked = registry.model(champion).asked(sampling.options)
    with announced(f"champion, {champion.family}, drawing"):
        drawn = asked.sample(sampling.n, condition=condition_of(asked, sampling), seed=sampling.seed)
    about = {"version": champion.number, "family": champion.family}
    return drawn, drawing_record(asked, sampling, drawn) | about


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _rank(candidate: "Candidate", by: str) -> float:
    """Return a number that is the smaller the better a candidate is."""
    from simulacra.metrics import METRICS

    value = candidate.record["metrics"][by]["value"]
    return float(value if METRICS[by].better == "lower" else -value)


def _champion(record: Record) -> "Candidate | None":
    from simulacra.retraining.gate import Candidate

    return Candidate(f"champion ({record['family']}, version {record['version']})", record) if record else None
