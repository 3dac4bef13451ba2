"""The HTML report: one self-contained page that opens offline and asks nothing of the network."""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from simulacra.metrics import LIKELIHOODS, METRICS, NATS
from simulacra.plotting import augmentation_figure, metric_chart, png
from simulacra.report.leaderboard import ARROWS, MISSING, RANKED_BY, flatten, format_value, note, row_title

MEANINGS = {
    "fd_classifier": "Distance between the Gaussians fitted to classifier features of real and generated images; "
    "0 where mean and covariance agree. The ranking goes by it.",
    "kid_classifier": "Squared maximum mean discrepancy of the same features, without bias: around 0, and below it by "
    "chance, where the two sets agree.",
    "is_classifier": "How confident and how varied the classifier's answers are: 1 at worst, the number of classes at "
    "best. It never looks at real images.",
    "precision": "Share of generated images that lie within the real ones: fidelity.",
    "recall": "Share of real images that lie within the generated ones: diversity.",
    "density": "How many real neighbourhoods hold a generated image, relative to real ones; may exceed 1.",
    "coverage": "Share of real images with a generated one in their neighbourhood: diversity, outliers aside.",
    "bits_per_dim": "Negative log-likelihood of the test images, exact.",
    "elbo_bits_per_dim": "Upper bound on the negative log-likelihood of the test images: the true value may be lower.",
    "bits_per_dim_binary": "Negative log-likelihood, exact, of test images whose pixels were made 0 or 1.",
    "elbo_bits_per_dim_binary": "Upper bound on the negative log-likelihood of test images whose pixels were made 0 or "
    "1.",
    "nats": "The same, summed over an image's dimensions, in nats.",
    "elbo_nats": "The same bound, summed over an image's dimensions, in nats.",
    "nats_binary": "The same, summed over an image's pixels, in nats, as papers on binarised digits give it.",
    "elbo_nats_binary": "The same bound, summed over an image's pixels, in nats.",
    "class_accuracy": "Share of samples that the classifier takes for the class that was asked for; of real images, "
    "for their own.",
    "bayes_accuracy": "Share of test images whose class the family's own likelihood finds, by Bayes' rule.",
    "train_seconds": "Time to fit the family on the device named under Training.",
    "sample_ms": "Time to generate one image on the same device.",
    "parameters": "Numbers that were fitted.",
}
LATENT_TITLES = {
    "latent_dim": "Coordinates of a code",
    "effective_dimensions": "Coordinates in effect",
    "reconstruction_mse": "Reconstruction: mean squared error ↓",
    "reconstruction_r2": "Reconstruction: R² ↑",
    "attribute_r2": "R² of its linear reading ↑",
    "attribute_spearman": "rank correlation with its slider ↑",
    "neighbour_agreement": "Nearest code is of the same class",
}
"""Rows of the table of latent spaces, by metric key; what follows a dot in a key is the attribute concerned."""
VERDICT_TONES = {"helps": "good", "hurts": "bad"}
CLEAR_GAP = 2.0


@dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Args:
        title: a few words.
        caption: what a newcomer sees here.
        image: PNG.
    """

    title: str
    caption: str
    image: bytes


@dataclass(frozen=True)
class Latent:
    """What the report shows of one family's latent space.

    Args:
        metrics: figures by key.
        omitted: what could not be shown, and why.
        pictures: in the order in which they are shown.
        map: the map of the codes.
        page: address of the interactive map, relative to the report.
    """

    metrics: Mapping[str, float]
    omitted: Mapping[str, str]
    pictures: Sequence[Picture]
    map: Picture
    page: str


@dataclass(frozen=True)
class Family:
    """What the report shows of one family.

    Args:
        name: its row in the leaderboard.
        samples: PNG of its samples by class.
        curves: PNG of its training curves; None where there are none.
        training: facts such as seconds, device, precision, parameters, seed; may be nested.
        config: the resolved configuration, YAML.
        latent: its latent space; None for a family without codes.
    """

    name: str
    samples: bytes
    curves: bytes | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    latent: Latent | None = None


@dataclass(frozen=True)
class Report:
    """All that the page holds; text may come from the user, the page escapes it.

    Args:
        dataset: name of the dataset.
        kind: kind of data, such as "image".
        generated_at: date and time, as it should read.
        leaderboard: what `simulacra.report.leaderboard.leaderboard` returned.
        records: the metrics records behind it, for their passports.
        families: one entry a family, in any order.
        real: PNG of real images by class.
        class_names: one name a class; empty where there are none.
        verdicts: augmentation verdict records.
        split: what the split recorded; its entry "splits" holds n, fingerprint and per_class of every part.
        ingest: what ingest recorded; may be nested.
        commands: shell commands that repeat the rows.
        notes: what the reader should know before the numbers.
        commit: git commit of the project; None outside a repository.
        versions: package to version.

    Example:
        >>> table = pd.DataFrame({"row": [], "role": [], "rank": [], "comparable": [], "note": [], "passport_id": []})
        >>> page = render(Report("mnist", "image", "today", table, records=[], families=[], real=b""))
        >>> page.startswith("<!doctype html>")
        True
    """

    dataset: str
    kind: str
    generated_at: str
    leaderboard: pd.DataFrame
    records: Sequence[Mapping[str, Any]]
    families: Sequence[Family]
    real: bytes
    class_names: Sequence[str] = ()
    verdicts: Sequence[Mapping[str, Any]] = ()
    split: Mapping[str, Any] = field(default_factory=dict)
    ingest: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()
    notes: Sequence[str] = ()
    commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


class Cell(NamedTuple):
    """One number of the leaderboard, or the reason why there is none."""

    value: str
    std: str
    reason: str


def render(report: Report) -> str:
    """Return the report as one HTML file: images as data addresses, style inline, no script."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": data_uri, "css_width": css_width, "text": text, "flatten": flatten}
    return environment.get_template("report.html.jinja").render(_context(report))


def headline(table: pd.DataFrame) -> list[str]:
    """Return in sentences which family ranks first, how far it is from floor and noise, and how clear its lead is."""
    families = table[table["rank"].notna()]
    if families.empty:
        return ["No family could be ranked; the leaderboard's notes say why."]
    best = families.iloc[0]
    sentences = [f"{best['row']} ranks first, with {METRICS[RANKED_BY].title} {_scored(best)}."]
    sentences += [_against(best, row) for _, row in table[table["role"] != "family"].iterrows() if _is_usable(row)]
    if len(families) > 1:
        sentences.append(_lead(best, families.iloc[1]))
    return sentences


def passport_sentence(record: Mapping[str, Any]) -> str:
    """Return the conditions of a row's numbers in one sentence."""
    passport = record["passport"]
    extractor = passport["extractor"]
    accuracy = extractor.get("test_accuracy")
    seen_by = f"{extractor['name']} features" + (f" (test accuracy {100 * accuracy:.1f} %)" if accuracy else "")
    seeds = ", ".join(map(str, passport["seeds"]))
    return (
        f"{passport['n_generated']:,} images against {passport['n_real']:,} real ones ({passport['compared']}), "
        f"seen through {seen_by}, over seeds {seeds}."
    )


def data_uri(image: bytes) -> str:
    """Return a PNG as a data address."""
    return f"data:image/png;base64,{b64encode(image).decode()}"


def css_width(image: bytes) -> int:
    """Return the width at which a chart's letters have their own size: its PNG header's pixels at two a CSS pixel."""
    return int.from_bytes(image[16:20]) // 2


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


def _context(report: Report) -> dict[str, Any]:
    """Return all that the template needs beside the report itself."""
    table = report.leaderboard
    metrics = [metric for metric in METRICS if metric in table]
    places = {name: place for place, name in enumerate(table["row"])}
    ranked = bool(table["rank"].notna().any())
    families = sorted(report.families, key=lambda family: places.get(family.name, len(places)))
    return {
        "report": report,
        "headline": headline(table),
        "metrics": [(metric, METRICS[metric], MEANINGS[metric]) for metric in metrics],
        "arrows": ARROWS,
        "rows": [_row(row, metrics) for _, row in table.iterrows()],
        "chart": png(metric_chart(table, RANKED_BY)) if ranked else None,
        "chart_title": METRICS[RANKED_BY].title,
        "families": families,
        "latent_rows": _latent_rows([family.latent for family in families if family.latent]),
        "verdicts": [_verdict(verdict) for verdict in report.verdicts],
        "forest": png(augmentation_figure([dict(v) for v in report.verdicts])) if report.verdicts else None,
        "passports": [
            (row_title(record), record, passport_sentence(record))
            for record in sorted(report.records, key=lambda record: places[record["row"]])
        ],
        "splits": report.split.get("splits", {}),
        "split_facts": {key: entry for key, entry in report.split.items() if key != "splits"},
        "ingest_facts": {key: entry for key, entry in report.ingest.items() if key != "per_class"},
        "per_class": _per_class(report),
        "versions": {"git commit": report.commit, **report.versions},
    }


def _row(row: "pd.Series[Any]", metrics: Sequence[str]) -> dict[str, Any]:
    """Return one row of the leaderboard as text."""
    return {
        "title": row_title(row),
        "role": row["role"],
        "rank": "" if pd.isna(row["rank"]) else int(row["rank"]),
        "comparable": row["comparable"],
        "note": note(row),
        "cells": [_cell(row, metric) for metric in metrics],
    }


def _cell(row: "pd.Series[Any]", metric: str) -> Cell:
    """Return one number split at its ±, or the reason why it is missing."""
    value, _, std = format_value(metric, row[metric], row[f"{metric}_std"]).partition(" ± ")
    return Cell(value, std, _missing_reason(row, metric) if value == MISSING else "")


def _missing_reason(row: "pd.Series[Any]", metric: str) -> str:
    """Return why a row lacks a metric, as far as the row itself tells."""
    if row["role"] != "family":
        return "not measured on a reference row"
    kinds = next((kinds for kinds in (LIKELIHOODS, NATS) if metric in kinds), None)
    if kinds is None:
        return "not measured"
    other = next((key for key in kinds if pd.notna(row.get(key))), None)
    return f"this family's likelihood is another: see {METRICS[other].title}" if other else "it has no likelihood"


def _per_class(report: Report) -> dict[str, list[int]]:
    """Return every class's number of images in each part of the split; empty where there are no classes."""
    counts = [part["per_class"] for part in report.split.get("splits", {}).values() if part.get("per_class")]
    return {name: [count[name] for count in counts] for name in (counts[0] if counts else {})}


def _latent_rows(spaces: Sequence[Latent]) -> list[tuple[str, list[str]]]:
    """Return the title of each figure of latent spaces, and what it is in each of them."""
    keys = dict.fromkeys(key for space in spaces for key in space.metrics if key.split(".")[0] in LATENT_TITLES)
    order = list(LATENT_TITLES)
    rows = []
    for key in sorted(keys, key=lambda key: order.index(key.split(".")[0])):
        kind, _, attribute = key.partition(".")
        title = f"{attribute.capitalize()}: {LATENT_TITLES[kind]}" if attribute else LATENT_TITLES[kind]
        values = [space.metrics.get(key) for space in spaces]
        rows.append((title, [MISSING if value is None else f"{value:.3g}".replace("-", "−") for value in values]))
    return rows


def _verdict(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Return one verdict as text."""
    accuracies = [_percent(verdict.get(f"accuracy_{trained_on}")) for trained_on in ("real", "augmented", "all_real")]
    return {
        "family": verdict["family"],
        "verdict": verdict["verdict"],
        "tone": VERDICT_TONES.get(verdict["verdict"], ""),
        "sentence": verdict["reason"],
        "compared": _compared(verdict) if verdict.get("difference") is not None else "",
        "accuracies": accuracies,
        "difference": MISSING if verdict.get("difference") is None else _points(verdict["difference"]),
        "interval": " to ".join(map(_points, verdict.get("interval") or ())) or MISSING,
        "per_seed": [
            (pair["seed"], _percent(pair["real"]), _percent(pair["augmented"]))
            for pair in verdict.get("per_seed") or ()
        ],
    }


def _compared(verdict: Mapping[str, Any]) -> str:
    """Return in one sentence what the verdict compares."""
    data = verdict["generator_data"]
    saw = {"scarce": "those scarce real images only", "train": "the whole training split"}.get(data, data)
    real = sorted(verdict["real_per_class"].values())
    a_class = f"{real[0]:,}" if real[0] == real[-1] else f"{real[0]:,} to {real[-1]:,}"
    return (
        f"The same classifier, {verdict['steps']:,} steps each: {a_class} real images a class, "
        f"without and with {verdict['synthetic_per_class']:,} synthetic ones. The generator saw {saw}."
    )


def _scored(row: "pd.Series[Any]") -> str:
    """Return the ranking metric of a row as text."""
    return format_value(RANKED_BY, row[RANKED_BY], row[f"{RANKED_BY}_std"])


def _is_usable(row: "pd.Series[Any]") -> bool:
    """Tell whether a reference row may be held against the best family."""
    return bool(row["comparable"]) and math.isfinite(row[RANKED_BY])


def _against(best: "pd.Series[Any]", reference: "pd.Series[Any]") -> str:
    """Return how the best family stands to a reference row, as a ratio where both are positive."""
    what = {"floor": "Real images against other real images (the floor) score", "noise": "Pure noise scores"}
    sentence = f"{what[reference['role']]} {_scored(reference)}"
    ours, theirs = best[RANKED_BY], reference[RANKED_BY]
    if min(ours, theirs) <= 0:
        return f"{sentence}."
    if ours >= theirs:
        return f"{sentence}: {best['row']} lies at {_times(ours / theirs)} that."
    return f"{sentence}, {_times(theirs / ours)} as much as {best['row']}."


def _lead(best: "pd.Series[Any]", second: "pd.Series[Any]") -> str:
    """Return whether the gap to the runner-up exceeds twice the combined spread over sample seeds."""
    spreads = [best[f"{RANKED_BY}_std"], second[f"{RANKED_BY}_std"]]
    sentence = f"Next comes {second['row']} at {_scored(second)}"
    if not all(map(math.isfinite, spreads)):
        return f"{sentence}."
    clear = second[RANKED_BY] - best[RANKED_BY] > CLEAR_GAP * math.hypot(*spreads)
    reading = "more than" if clear else "no more than"
    return f"{sentence}; the gap is {reading} twice the spread over sample seeds" + (
        "." if clear else ": no clear winner."
    )


def _times(ratio: float) -> str:
    """Return a ratio in words; below ten the first decimal still says something."""
    return f"{ratio:,.{1 if ratio < 10 else 0}f} times"


def _percent(share: float | None) -> str:
    """Return a share in percent, an em dash where there is none."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def _points(share: float) -> str:
    """Return a difference of shares in percentage points, signed."""
    return f"{100 * share:+z.1f}".replace("-", "−")
