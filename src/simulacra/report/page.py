"""The HTML report: one self-contained page that opens offline and asks nothing of the network."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from simulacra.metrics import (
    CLOSER_LOOKS,
    COSTS,
    FRECHET,
    LIKELIHOODS,
    METRICS,
    MISSING,
    NATS,
    PRETRAINED,
    THROUGH,
    format_value,
    ranked_by,
)
from simulacra.metrics.passport import flatten
from simulacra.plotting import augmentation_figure, metric_chart, pareto_figure, png, radar_figure
from simulacra.report.human import Human
from simulacra.report.leaderboard import ARROWS, note, row_title
from simulacra.report.sentences import (
    compared,
    headline,
    likelihood_sentence,
    passport_sentence,
    percent,
    points,
    text,
    verdicts_in_short,
)

MEANINGS = {
    "fd_classifier": "Distance between the Gaussians fitted to classifier features of real and generated images; "
    "0 where mean and covariance agree. The ranking goes by it.",
    "fid": "Fréchet Inception distance: the same distance between features of the network, its weights and its resizer "
    "that the literature goes by.",
    "kid_classifier": "Squared maximum mean discrepancy of the same features, without bias: around 0, and below it by "
    "chance, where the two sets agree.",
    "is_classifier": "How confident and how varied the classifier's answers are: 1 at worst, the number of classes at "
    "best. It never looks at real images.",
    "precision": "Share of generated images that lie within the real ones: fidelity.",
    "recall": "Share of real images that lie within the generated ones: diversity.",
    "density": "How many real neighbourhoods hold a generated image, relative to real ones; may exceed 1.",
    "coverage": "Share of real images with a generated one in their neighbourhood: diversity, outliers aside.",
    "vendi": "How many samples that have nothing in common would be as varied, the number of features at most. The "
    "floor's row tells what real images have; noise may have more.",
    "fd_infinity": "What the Fréchet distance would be of infinitely many images, extrapolated from subsets: without "
    "what too few images add to it. It varies more, and may fall below 0.",
    "sliced_wasserstein": "How far features would have to be moved to turn one set into the other, seen along random "
    "lines: it notices what mean and covariance do not show.",
    "memorised": "Share of samples that lie as near to a training image as only one of a hundred test images does: "
    "about 0.01 of one that invents, 1 of one that copies.",
    "authenticity": "Share of samples that are no nearer to a training image than that one's own nearest neighbour is. "
    "Compare it with the floor's, not with 1.",
    "kid_pixels": "Squared maximum mean discrepancy of images averaged to 8 × 8 pixels, which needs no network.",
    "intensity_distance": "By how many grey levels a pixel would have to change for the histograms to agree: too pale, "
    "too dark or clipped images show here.",
    "spectral_distance": "By how many decibels the power at each spatial frequency differs: blur, noise and patterns "
    "of upsampling show here.",
    "bits_per_dim": "Negative log-likelihood of the test images, exact.",
    "elbo_bits_per_dim": "Upper bound on the negative log-likelihood of the test images: the true value may be lower.",
    "bits_per_dim_binary": "Negative log-likelihood, exact, of test images whose pixels were made 0 or 1.",
    "elbo_bits_per_dim_binary": "Upper bound on the negative log-likelihood of test images whose pixels were made 0 or "
    "1.",
    "nats": "Bits/dim, summed over an image's dimensions, in nats.",
    "elbo_nats": "The bound in bits/dim, summed over an image's dimensions, in nats.",
    "nats_binary": "Bits/dim of binarised pixels, summed over an image, in nats, as papers give it.",
    "elbo_nats_binary": "The bound of binarised pixels in bits/dim, summed over an image, in nats.",
    "bits_per_byte": "Negative log-likelihood of held-out text a byte of UTF-8; 8 is knowing nothing. It compares "
    "families whatever their tokens. The ranking goes by it.",
    "bits_per_character": "The same a character.",
    "perplexity": "e to the mean negative log-likelihood of a token: among how many tokens the family hesitates. "
    "Longer tokens make it larger, so that it compares families with the same tokenizer only.",
    "distinct_2": "Different pairs of words among all pairs in the generated texts: variety.",
    "repetition_4": "Share of runs of four words that stood in the same text before.",
    "copied_8": "Share of runs of eight words that stand in the training set: memory in place of invention. What "
    "held-out text has of them is on the floor's row.",
    "class_accuracy": "Share of samples that the classifier takes for the class that was asked for; of real images, "
    "for their own.",
    "accuracy_score": "Classification accuracy score: share of test images whose class a classifier finds that saw "
    "samples alone. What as many real images give is on the row of training images.",
    "bayes_accuracy": "Share of test images whose class the family's own likelihood finds, by Bayes' rule.",
    "human_error_rate": "Share of samples that people took for real images. What it is for real images themselves is "
    "under People.",
    "human_strength": "Strength in comparisons of two samples, by the Bradley–Terry model: 0 is the average family, "
    "and of one that is ahead by 1 people prefer the sample in 73 % of cases.",
    "train_seconds": "Time to fit the family on the device named under Training.",
    "sample_ms": "Time to generate one sample on the same device.",
    "parameters": "Numbers that were fitted.",
    "peak_memory_mib": "The most main memory that the program held while it fitted the family, with libraries and "
    "data.",
    "energy_wh": "What the machine's processors took meanwhile, other programs included; few machines tell.",
}
SEEN_THROUGH = {
    "fd": "The same distance between features of {title}, which others trained on other images.",
    "kid": "Squared maximum mean discrepancy of the features of {title}, without bias.",
    "is": "How confident and how varied the answers of {title} are. Its classes are ImageNet's, so that this says "
    "little of images that are no photographs.",
    "precision": "Share of generated images that lie within the real ones, among the features of {title}.",
    "recall": "Share of real images that lie within the generated ones, among the features of {title}.",
    "density": "How many real neighbourhoods hold a generated image, among the features of {title}.",
    "coverage": "Share of real images with a generated one in their neighbourhood, among the features of {title}.",
}
MEANINGS |= {
    f"{kind}_{extractor}": meaning.format(title=title)
    for extractor, title in PRETRAINED.items()
    for kind, meaning in SEEN_THROUGH.items()
    if f"{kind}_{extractor}" in METRICS
}
THROUGH_NETWORKS = frozenset(key for metrics in THROUGH.values() for key in metrics) - {*FRECHET}
"""Metrics of the table of other networks; of these the leaderboard repeats only the Fréchet distances."""
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
LIKELIHOOD_TABLE = (*LIKELIHOODS, *NATS, "bayes_accuracy")
"""Metrics of the table of likelihoods; of these the leaderboard repeats only the bits per dimension."""
VERDICT_TONES = {"helps": "good", "hurts": "bad"}


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
class Editing:
    """What the report shows of one family's edits.

    Args:
        about: what was edited.
        sentence: how good the fills are, measured; empty where that could not be.
        omitted: what could not be shown, and why.
        pictures: in the order in which they are shown.
        command: shell command that edits a picture of one's own.
    """

    about: str
    sentence: str
    omitted: Mapping[str, str]
    pictures: Sequence[Picture]
    command: str


@dataclass(frozen=True)
class Passage:
    """One generated text of the report.

    Args:
        text: what was generated.
        passage: the training text that shares the longest run of words with it.
        shared: how many words that are.
    """

    text: str
    passage: str
    shared: int


@dataclass(frozen=True)
class Family:
    """What the report shows of one family.

    Args:
        name: its row in the leaderboard.
        samples: PNG of its samples by class; None for a family of texts.
        curves: PNG of its training curves; None where there are none.
        training: facts such as seconds, device, precision, parameters, seed; may be nested.
        config: the resolved configuration, YAML.
        flags: what the sentinels raised: step, symptom and remedy.
        latent: its latent space; None for a family without codes.
        film: some of its samples on their way from noise; None for a family that does not denoise.
        drawing_command: the shell command that draws other samples.
        neighbours: its samples beside the training images nearest to them; None for a family of texts.
        prompts: what it drew by prompt; None for one that takes none.
        editing: its edits; None for a family that does not denoise.
        passages: texts that it generated; none for a family of images.
    """

    name: str
    samples: bytes | None = None
    curves: bytes | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    flags: Sequence[Mapping[str, Any]] = ()
    latent: Latent | None = None
    film: Picture | None = None
    drawing_command: str = ""
    neighbours: Picture | None = None
    prompts: Picture | None = None
    editing: Editing | None = None
    passages: Sequence[Passage] = ()


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
        real: PNG of real images by class; None for texts.
        real_texts: held-out texts; none for images.
        class_names: one name a class; empty where there are none.
        verdicts: augmentation verdict records.
        human: what people said; None where nobody was asked.
        evaluator: how the ranking metric answers to real images that are made worse; None for texts.
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
    real: bytes | None = None
    real_texts: Sequence[str] = ()
    class_names: Sequence[str] = ()
    verdicts: Sequence[Mapping[str, Any]] = ()
    human: Human | None = None
    evaluator: Picture | None = None
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
    """Return the report as one HTML file: images as data addresses, style inline, one script that sorts tables.

    No other script would run, since the page names the hash of this one.
    """
    return fill_template("report.html.jinja", _context(report))


def fill_template(name: str, content: Mapping[str, Any]) -> str:
    """Return a page of the folder of templates, with the style and the script that all of them share."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": data_uri, "css_width": css_width, "text": text, "flatten": flatten}
    script = Path(__file__).with_name("templates").joinpath("sort.js").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = {"script": script, "script_hash": f"sha256-{digest}"}
    return environment.get_template(name).render({**content, **shared})


def data_uri(image: bytes) -> str:
    """Return a PNG as a data address."""
    return f"data:image/png;base64,{b64encode(image).decode()}"


def css_width(image: bytes) -> int:
    """Return the width at which a chart's letters have their own size: its PNG header's pixels at two a CSS pixel."""
    return int.from_bytes(image[16:20]) // 2


def _context(report: Report) -> dict[str, Any]:
    """Return all that the template needs beside the report itself."""
    table = report.leaderboard
    present = [metric for metric in METRICS if metric in table]
    elsewhere = THROUGH_NETWORKS | {*CLOSER_LOOKS} | {*COSTS} | {*LIKELIHOOD_TABLE} - {*LIKELIHOODS}
    metrics = [metric for metric in present if metric not in elsewhere]
    networks = [metric for metric in present if metric in THROUGH_NETWORKS]
    likelihoods = [metric for metric in present if metric in LIKELIHOOD_TABLE]
    places = {name: place for place, name in enumerate(table["row"])}
    ranked = bool(table["rank"].notna().any())
    families = sorted(report.families, key=lambda family: places.get(family.name, len(places)))
    return {
        "report": report,
        "headline": headline(table),
        "metrics": [(metric, METRICS[metric], MEANINGS[metric]) for metric in metrics],
        "closer_metrics": [(metric, METRICS[metric], MEANINGS[metric]) for metric in CLOSER_LOOKS if metric in table],
        "closer_rows": [_row(row, [each for each in CLOSER_LOOKS if each in table]) for _, row in table.iterrows()],
        "cost_metrics": [(metric, METRICS[metric], MEANINGS[metric]) for metric in COSTS if metric in table],
        "cost_rows": _cost_rows(table),
        "network_metrics": [(metric, METRICS[metric], MEANINGS[metric]) for metric in networks],
        "network_rows": [_row(row, networks) for _, row in table.iterrows()],
        "likelihood_metrics": [(metric, METRICS[metric], MEANINGS[metric]) for metric in likelihoods],
        "likelihoods": _likelihood_rows(report, likelihoods) if likelihoods else [],
        "arrows": ARROWS,
        "rows": [_row(row, metrics) for _, row in table.iterrows()],
        "chart": png(metric_chart(table, ranked_by(table))) if ranked else None,
        "radar": png(radar_figure(table)) if ranked and "precision" in table else None,
        "pareto": png(pareto_figure(table, ranked_by(table))) if ranked and "train_seconds" in table else None,
        "chart_title": METRICS[ranked_by(table)].title,
        "families": families,
        "latent_rows": _latent_rows([family.latent for family in families if family.latent]),
        "verdicts": [_verdict(verdict) for verdict in report.verdicts],
        "verdicts_in_short": verdicts_in_short(report.verdicts) if report.verdicts else "",
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


def _cost_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what each family took; references and other programs' images cost nothing that is known here."""
    costs = [metric for metric in COSTS if metric in table]
    return [_row(row, costs) for _, row in table.iterrows() if any(pd.notna(row[metric]) for metric in costs)]


def _likelihood_rows(report: Report, metrics: Sequence[str]) -> list[tuple[str, list[Cell], str]]:
    """Return name, numbers and conditions of every family with a likelihood, in the leaderboard's order."""
    taken = {record["row"]: record["passport"].get("likelihood") for record in report.records}
    rows = [row for _, row in report.leaderboard.iterrows() if taken.get(row["row"])]
    return [(row["row"], [_cell(row, key) for key in metrics], likelihood_sentence(taken[row["row"]])) for row in rows]


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
    accuracies = [percent(verdict.get(f"accuracy_{trained_on}")) for trained_on in ("real", "augmented", "all_real")]
    return {
        "family": verdict["family"],
        "verdict": verdict["verdict"],
        "tone": VERDICT_TONES.get(verdict["verdict"], ""),
        "sentence": verdict["reason"],
        "compared": compared(verdict) if verdict.get("difference") is not None else "",
        "accuracies": accuracies,
        "difference": MISSING if verdict.get("difference") is None else points(verdict["difference"]),
        "interval": " to ".join(map(points, verdict.get("interval") or ())) or MISSING,
        "per_seed": [
            (pair["seed"], percent(pair["real"]), percent(pair["augmented"])) for pair in verdict.get("per_seed") or ()
        ],
    }
