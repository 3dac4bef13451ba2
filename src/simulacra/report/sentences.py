"""Results in words: what a reader should take away from the numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from simulacra.metrics import METRICS, MISSING, format_value, ranked_by
from simulacra.metrics.corruptions import CORRUPTIONS

VERDICT_ORDER = ("helps", "no effect", "hurts", "not applicable")
CLEAR_GAP = 2.0
AGAINST = {"floor": "Real images against other real images (the floor) score", "noise": "Pure noise scores"}
"""How the rows are told that the best family is held against."""


def headline(table: pd.DataFrame) -> list[str]:
    """Return in sentences which family ranks first, how far it is from floor and noise, and how clear its lead is."""
    families = table[table["rank"].notna()]
    if families.empty:
        return ["No family could be ranked; the leaderboard's notes say why."]
    best = families.iloc[0]
    sentences = [f"{best['row']} ranks first, with {METRICS[ranked_by(table)].title} {_scored(best)}."]
    sentences += [_against(best, row) for _, row in table[table["role"].isin(AGAINST)].iterrows() if _is_usable(row)]
    if len(families) > 1:
        sentences.append(_lead(best, families.iloc[1]))
    return sentences


def verdicts_in_short(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return in one sentence which families' synthetic images help a classifier, and which do not."""
    parts = []
    for kind in VERDICT_ORDER:
        names = [_changed(verdict) for verdict in verdicts if verdict["verdict"] == kind]
        parts += [f"{kind}: {', '.join(names)}"] if names else []
    answer = "; ".join(parts)
    return f"Do synthetic images help a classifier short of data (change in points)? {answer[:1].upper()}{answer[1:]}."


def evaluator_sentences(record: Mapping[str, Any]) -> str:
    """Return in sentences whether the ranking metric says more of real images, the worse they are made."""
    title, n = METRICS[record["metric"]].title, record["n"]
    found = f"{n:,} real images against {n:,} others, as they are (0) and made worse by degrees. "
    flat = [CORRUPTIONS[name].title.lower() for name, rises in record["rises"].items() if not rises]
    if not flat:
        return f"{found}{title} says more at every step: it notices each of these faults, and how far it went."
    return f"{found}{title} does not rise at every step of: {', '.join(flat)}. Differences of that size tell nothing."


def likelihood_sentence(likelihood: Mapping[str, Any]) -> str:
    """Return what a passport says of a likelihood, in words."""
    draws, noise, binary = (likelihood[key] for key in ("importance_samples", "dequantisation", "binarisation"))
    discrete = likelihood["quantity"] == "exact" and noise == binary == "none"
    parts = [
        likelihood["quantity"],
        f"of {likelihood['of']}" + ("" if binary == "none" else f" ({binary})"),
        "no dequantisation" if noise == "none" else f"{noise} dequantisation",
        "" if discrete else "1 draw" if draws == 1 else f"log-mean of {draws:,} draws",
        "classes summed out" if likelihood["classes_summed_out"] else "no classes",
    ]
    return ", ".join(filter(None, parts))


def passport_sentence(record: Mapping[str, Any]) -> str:
    """Return the conditions of a row's numbers in one sentence."""
    passport = record["passport"]
    if "extractors" not in passport:
        return _text_conditions(passport)
    seen_by = " and ".join(map(_seen_by, passport["extractors"].values()))
    seeds = ", ".join(map(str, passport["seeds"]))
    return (
        f"{passport['n_generated']:,} images against {passport['n_real']:,} real ones ({passport['compared']}), "
        f"seen through {seen_by}, over seeds {seeds}."
    )


def _seen_by(extractor: Mapping[str, Any]) -> str:
    """Return which features images were compared by."""
    accuracy = extractor.get("test_accuracy")
    return f"{extractor['name']} features" + (f" (test accuracy {100 * accuracy:.1f} %)" if accuracy else "")


def _text_conditions(passport: Mapping[str, Any]) -> str:
    """Return the conditions of the numbers of a row of texts."""
    seeds, taken = ", ".join(map(str, passport["seeds"])), passport["likelihood"]
    if taken is None:
        return f"Over seeds {seeds}."
    return (
        f"Likelihood of {taken['bytes']:,} bytes of held-out text in {taken['tokens']:,} tokens, each foretold from "
        f"windows of {taken['context']:,} tokens that begin {taken['stride']:,} apart; texts over seeds {seeds}."
    )


def text(value: Any, key: str = "") -> str:
    """Return a record's entry as a reader expects it; seeds are names, not counts, and get no thousands separators."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if "seed" in key else f"{value:,}"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return ", ".join(text(entry, key) for entry in value) or MISSING
    return str(value)


def compared(verdict: Mapping[str, Any]) -> str:
    """Return in one sentence what the verdict compares."""
    data = verdict["generator_data"]
    saw = {"scarce": "those scarce real images only", "train": "the whole training split"}.get(data, data)
    real = sorted(verdict["real_per_class"].values())
    a_class = f"{real[0]:,}" if real[0] == real[-1] else f"{real[0]:,} to {real[-1]:,}"
    return (
        f"The same classifier, {verdict['steps']:,} steps each: {a_class} real images a class, "
        f"without and with {verdict['synthetic_per_class']:,} synthetic ones. The generator saw {saw}."
    )


def prompt_sentences(record: Mapping[str, Any]) -> str:
    """Return in sentences how faithful a family is to prompts, with 95 % intervals and what real images would score."""
    fidelity, extractor = record["fidelity"], record["extractor"]
    classes = fidelity["classes"]
    found = f"Of {classes['n']:,} images, each of a prompt of its own, the classifier takes {interval(classes)} for "
    found += f"the class named; of real test images {percent(extractor['test_accuracy'])} for their own."
    if not fidelity["words"]:
        return f"{found} Images of these classes do not differ in what there are words for."
    words = ", ".join(f"{word} {percent(each['value'])}" for word, each in fidelity["words"].items())
    return (
        f"{found} Measured in the pixels, a word holds in {interval(fidelity['attributes'])} of "
        f"{fidelity['attributes']['n']:,} cases, where chance, or a real image of the class, has a third: {words}."
    )


def interval(share: Mapping[str, Any]) -> str:
    """Return a share with its interval in percent."""
    low, high = share["interval"]
    return f"{percent(share['value'])} ({100 * low:.1f} to {100 * high:.1f} %)"


def _changed(verdict: Mapping[str, Any]) -> str:
    """Return the family and, where it was measured, the change of accuracy in points."""
    difference = verdict["difference"]
    return verdict["family"] if difference is None else f"{verdict['family']} ({points(difference)})"


def _scored(row: "pd.Series[Any]") -> str:
    """Return the ranking metric of a row as text."""
    by = ranked_by(row)
    return format_value(by, row[by], row[f"{by}_std"])


def _is_usable(row: "pd.Series[Any]") -> bool:
    """Tell whether a reference row may be held against the best family."""
    return bool(row["comparable"]) and math.isfinite(row[ranked_by(row)])


def _against(best: "pd.Series[Any]", reference: "pd.Series[Any]") -> str:
    """Return how the best family stands to a reference row, as a ratio where both are positive."""
    sentence = f"{AGAINST[reference['role']]} {_scored(reference)}"
    ours, theirs = best[ranked_by(best)], reference[ranked_by(best)]
    if min(ours, theirs) <= 0:
        return f"{sentence}."
    if ours >= theirs:
        return f"{sentence}: {best['row']} lies at {_times(ours / theirs)} that."
    return f"{sentence}, {_times(theirs / ours)} as much as {best['row']}."


def _lead(best: "pd.Series[Any]", second: "pd.Series[Any]") -> str:
    """Return whether the gap to the runner-up exceeds twice the combined spread over sample seeds."""
    by = ranked_by(best)
    spreads = [best[f"{by}_std"], second[f"{by}_std"]]
    sentence = f"Next comes {second['row']} at {_scored(second)}"
    if not all(map(math.isfinite, spreads)):
        return f"{sentence}."
    clear = second[by] - best[by] > CLEAR_GAP * math.hypot(*spreads)
    reading = "more than" if clear else "no more than"
    return f"{sentence}; the gap is {reading} twice the spread over sample seeds" + (
        "." if clear else ": no clear winner."
    )


def _times(ratio: float) -> str:
    """Return a ratio in words; below ten the first decimal still says something."""
    return f"{ratio:,.{1 if ratio < 10 else 0}f} times"


def percent(share: float | None) -> str:
    """Return a share in percent, an em dash where there is none."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def points(share: float) -> str:
    """Return a difference of shares in percentage points, signed."""
    return f"{100 * share:+z.1f}".replace("-", "−")
