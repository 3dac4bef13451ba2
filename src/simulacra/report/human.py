"""What people say of each family, in words and rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulacra.human.analysis import family_metrics
from simulacra.metrics import METRICS, MISSING
from simulacra.plotting import human_figure, png
from simulacra.report.sentences import interval, percent

FAMILY_TITLES = ("Family", "Answers", "Taken for real", "Comparisons", "Won", "Strength", "Interval")
RATER_TITLES = (
    "Rater",
    "Answers",
    "Told apart",
    "Said real",
    "Attention checks failed",
    "Median time, s",
    "Left out since",
)
MODES = {"real_or_fake": "whether single images are real", "preference": "which of two is better"}

Record = Mapping[str, Any]
Rows = Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Human:
    """What the report shows of people's answers.

    Args:
        sentences: what they say, in words.
        rules: whose answers are left out, in words.
        families: name and cells of each family, under `family_titles`.
        raters: name and cells of each rater, under `rater_titles`; none where the file does not tell them apart.
        picture: PNG of error rates and strengths.
    """

    sentences: Sequence[str]
    rules: Sequence[str]
    families: Rows
    raters: Rows
    picture: bytes
    family_titles: Sequence[str] = FAMILY_TITLES
    rater_titles: Sequence[str] = RATER_TITLES


def judged(record: Record, human_record: Record | None) -> Record:
    """Return a metrics record with what people say of the family, if it is samples of this model that they judged."""
    if human_record is None or not _is_of(record, human_record):
        return record
    found = family_metrics(dict(human_record), record["row"])
    values = {key: {"value": found[key], "std": None, "per_seed": None} for key in METRICS if key in found}
    return {**record, "metrics": {**record["metrics"], **values}}


def human_section(human_record: Record, records: Sequence[Record]) -> Human:
    """Return what the report shows.

    Args:
        human_record: what `simulacra.human.analysis.analyse` returned, with the models that it is about.
        records: metrics records of the families as they are now.
    """
    return Human(
        [*_findings(human_record), *_conditions(human_record, records)],
        human_record["rules"],
        _family_rows(human_record),
        [(rater["rater"], _rater_cells(rater)) for rater in human_record["raters"]],
        png(human_figure(dict(human_record))),
    )


def _is_of(record: Record, human_record: Record) -> bool:
    """Tell whether people judged samples of the model that a metrics record is about."""
    return bool(human_record["models"].get(record["row"]) == record["model_sha256"])


def _findings(human: Record) -> list[str]:
    """Return how many answered, the error rates, the ranking and the agreement, a sentence each or two."""
    raters = "Raters who are not told apart" if human["n_raters"] is None else f"{human['n_raters']:,} raters"
    said = [f"{raters} gave the {human['n_answers']:,} answers that count."]
    rates, real, compared = human["families"], human["real"], human["preference"]
    if rates:
        best = max(rates, key=lambda name: rates[name]["value"])
        said.append(f"Most often taken for real are images of {best}: {interval(rates[best])}.")
    if real["n"]:
        said.append(
            f"Of real images, {interval(real)} were taken for generated ones: a family that nobody can tell from them "
            f"would be taken for real in {percent(1 - real['value'])}."
        )
    if compared:
        said.append(f"By the comparisons of two, the best first: {', '.join(compared['families'])}. {compared['note']}")
    return said + [_agreement(mode, found) for mode, found in human["agreement"].items()]


def _agreement(mode: str, found: Record) -> str:
    if found["alpha"] is None:
        return f"How far raters agree on {MODES[mode]} cannot be told: no image was judged twice, or all answers agree."
    alpha = f"{found['alpha']:.2f}".replace("-", "−")
    return (
        f"Raters agree on {MODES[mode]} with a Krippendorff's α of {alpha} over {found['units']:,} questions that two "
        "or more answered; 1 is always, 0 as often as by chance."
    )


def _conditions(human: Record, records: Sequence[Record]) -> list[str]:
    """Return what the intervals mean, and which figures are not in the leaderboard."""
    said = [
        "Intervals have a confidence of 95 %. Those of shares are Wilson's, wider where answers of one person, or to "
        "one image, are alike; a single person does not tell how others would answer. Those of strengths come from "
        "the curvature of the likelihood and take answers for independent, so that true ones are wider."
    ]
    if not human["models"]:
        return [*said, "The answers do not tell which models they are about, so the leaderboard leaves them out."]
    older = [record["row"] for record in records if record["row"] in human["models"] and not _is_of(record, human)]
    if older:
        said.append(f"People judged an older model of {', '.join(older)}: the leaderboard leaves that out.")
    return said


def _family_rows(human: Record) -> Rows:
    """Return rows of all families, the one most often taken for real first, and of real images."""
    rates, compared = human["families"], (human["preference"] or {}).get("families") or {}
    names = sorted(rates, key=lambda name: -rates[name]["value"])
    rows = [(name, _family_cells(rates.get(name), compared.get(name))) for name in dict.fromkeys([*names, *compared])]
    if human["real"]["n"]:
        wrong = human["real"]
        right = {"n": wrong["n"], "value": 1 - wrong["value"], "interval": [1 - end for end in wrong["interval"][::-1]]}
        rows.append(("real images", _family_cells(right, None)))
    return rows


def _family_cells(rate: Record | None, strength: Record | None) -> list[str]:
    single = [f"{rate['n']:,}", interval(rate)] if rate else [MISSING] * 2
    if strength is None:
        return [*single, *[MISSING] * 4]
    value, low, high = (f"{number:+.2f}".replace("-", "−") for number in (strength["strength"], *strength["interval"]))
    return [*single, f"{strength['n']:,}", f"{strength['won']:,}", value, f"{low} to {high}"]


def _rater_cells(rater: Record) -> list[str]:
    seconds = rater["median_seconds"]
    return [
        f"{rater['answers']:,}",
        percent(rater["accuracy"]),
        percent(rater["said_real"]),
        f"{rater['failed_checks']} of {rater['checks']}" if rater["checks"] else MISSING,
        MISSING if seconds is None else f"{seconds:.1f}",
        ", ".join(rater["excluded"]) or MISSING,
    ]
