"""Metrics: one file each, arrays in and floats out; this table says how to read them."""

import math
from collections.abc import Container
from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """How to read one metric: its heading, its unit, the better direction, and the decimals worth printing."""

    title: str
    unit: str
    better: Literal["lower", "higher"]
    decimals: int


LIKELIHOODS = ("bits_per_dim", "elbo_bits_per_dim", "bits_per_dim_binary", "elbo_bits_per_dim_binary")
"""Of these metrics a family has one at most: exact or a bound, of 256 grey levels or of binarised pixels."""
COSTS = ("train_seconds", "sample_ms", "parameters", "peak_memory_mib", "energy_wh")
"""What a family takes; of the machine as much as of the family, but for the parameters."""
CLOSER_LOOKS = (
    *("memorised", "authenticity", "vendi", "fd_infinity", "sliced_wasserstein"),
    *("intensity_distance", "spectral_distance"),
)
"""Metrics that look for one fault each: copies, sameness, what two moments hide, and what a network may not see."""
NATS = tuple(key.replace("bits_per_dim", "nats") for key in LIKELIHOODS)
"""The same numbers in nats per image, as papers on binarised images give them."""

CLASSIFIER = "classifier"
"""The extractor that is trained on the dataset itself; in keys it is named only where its features are compared."""
PRETRAINED = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "inception": "Inception",
    "dinov2": "DINOv2",
}
"""Extractors that others trained, each with its title; their names stand in all of their keys."""


def frechet_key(extractor: str) -> str:
    """Return the key of the Fréchet distance: FID is what it is called of the canonical Inception network only.

    Example:
        >>> frechet_key("efficientnet_lite0"), frechet_key("inception")
        ('fd_efficientnet_lite0', 'fid')
    """
    return "fid" if extractor == "inception" else f"fd_{extractor}"


FRECHET = tuple(frechet_key(extractor) for extractor in (CLASSIFIER, *PRETRAINED))
"""The Fréchet distance by each extractor."""
RANKS = (*FRECHET, "bits_per_byte")
"""What families are ranked by: the first of these that is measured."""


def ranked_by(metrics: Container[str]) -> str:
    """Return what families are ranked by where these metrics are measured.

    Example:
        >>> ranked_by({"bits_per_byte", "perplexity"})
        'bits_per_byte'
    """
    return next((metric for metric in RANKS if metric in metrics), RANKS[0])


def _through(extractor: str, title: str) -> dict[str, Metric]:
    """Return the metrics of features, and of class probabilities if any, of a network that others trained."""
    distance = "FID" if extractor == "inception" else f"FD ({title})"
    metrics = {
        frechet_key(extractor): Metric(distance, "squared feature distance", "lower", 2),
        f"kid_{extractor}": Metric(f"KID ({title})", "squared MMD × 1000", "lower", 2),
        f"is_{extractor}": Metric(f"IS ({title})", "effective classes of ImageNet", "higher", 2),
        f"precision_{extractor}": Metric(f"Precision ({title})", "share of samples", "higher", 3),
        f"recall_{extractor}": Metric(f"Recall ({title})", "share of real images", "higher", 3),
        f"density_{extractor}": Metric(f"Density ({title})", "1 = as dense as real", "higher", 3),
        f"coverage_{extractor}": Metric(f"Coverage ({title})", "share of real images", "higher", 3),
    }
    # DINOv2 was trained without classes, so that it gives no inception score.
    return {key: metric for key, metric in metrics.items() if key != "is_dinov2"}


THROUGH = {extractor: _through(extractor, title) for extractor, title in PRETRAINED.items()}
"""Metrics by the extractor that others trained."""

METRICS: dict[str, Metric] = {
    "fd_classifier": Metric("FD (classifier)", "squared feature distance", "lower", 2),
    "kid_classifier": Metric("KID (classifier)", "squared MMD × 1000", "lower", 2),
    "is_classifier": Metric("IS (classifier)", "effective classes", "higher", 2),
    "precision": Metric("Precision", "share of samples", "higher", 3),
    "recall": Metric("Recall", "share of real images", "higher", 3),
    "density": Metric("Density", "1 = as dense as real", "higher", 3),
    "coverage": Metric("Coverage", "share of real images", "higher", 3),
    "vendi": Metric("Vendi score", "effective different samples", "higher", 1),
    "fd_infinity": Metric("FD∞ (classifier)", "squared feature distance", "lower", 2),
    "sliced_wasserstein": Metric("Sliced Wasserstein", "feature distance", "lower", 2),
    "memorised": Metric("Memorised", "share of samples", "lower", 3),
    "authenticity": Metric("Authentic", "share of samples", "higher", 3),
    "kid_pixels": Metric("KID (averaged pixels)", "squared MMD × 1000", "lower", 2),
    "intensity_distance": Metric("Intensities", "grey levels", "lower", 2),
    "spectral_distance": Metric("Spectrum", "dB", "lower", 2),
    **{key: metric for metrics in THROUGH.values() for key, metric in metrics.items()},
    "bits_per_dim": Metric("Bits/dim (exact)", "bits per dimension", "lower", 3),
    "elbo_bits_per_dim": Metric("Bits/dim (ELBO)", "bits per dimension, upper bound", "lower", 3),
    "bits_per_dim_binary": Metric("Bits/dim (exact, binary)", "bits per binarised dimension", "lower", 3),
    "elbo_bits_per_dim_binary": Metric("Bits/dim (ELBO, binary)", "bits per binarised dimension, bound", "lower", 3),
    "nats": Metric("Nats (exact)", "nats per image", "lower", 1),
    "elbo_nats": Metric("Nats (ELBO)", "nats per image, upper bound", "lower", 1),
    "nats_binary": Metric("Nats (exact, binary)", "nats per binarised image", "lower", 1),
    "elbo_nats_binary": Metric("Nats (ELBO, binary)", "nats per binarised image, upper bound", "lower", 1),
    "bits_per_byte": Metric("Bits/byte", "bits per byte of held-out text", "lower", 3),
    "bits_per_character": Metric("Bits/character", "bits per character of held-out text", "lower", 3),
    "perplexity": Metric("Perplexity", "per token, of the family's own tokens", "lower", 2),
    "distinct_2": Metric("Distinct-2", "share of pairs of words", "higher", 3),
    "repetition_4": Metric("Repetition", "share of runs of 4 words said before", "lower", 3),
    "copied_8": Metric("Copied", "share of runs of 8 words in the training set", "lower", 3),
    "class_accuracy": Metric("Class asked for", "share of samples", "higher", 3),
    "accuracy_score": Metric("Accuracy score", "share of test images", "higher", 3),
    "bayes_accuracy": Metric("Bayes accuracy", "share of test images", "higher", 3),
    "human_error_rate": Metric("Taken for real", "share of samples, by people", "higher", 3),
    "human_strength": Metric("Preferred by people", "log-odds against the average family", "higher", 2),
    "train_seconds": Metric("Training", "seconds", "lower", 1),
    "sample_ms": Metric("Sampling", "ms per sample", "lower", 2),
    "parameters": Metric("Parameters", "count", "lower", 0),
    "peak_memory_mib": Metric("Peak memory", "MiB", "lower", 0),
    "energy_wh": Metric("Energy", "watt-hours", "lower", 2),
}

MISSING = "—"
"""Stands for a value that there is not."""


def format_value(metric: str, value: float | None, std: float | None) -> str:
    """Return "value ± std" as the metric prints, an em dash where there is no finite value.

    Decimals are the metric's own, fewer where the standard deviation would show more than two significant digits.

    Example:
        >>> format_value("fd_classifier", 3.104, 0.21), format_value("fd_classifier", 912.34, 12.3)
        ('3.10 ± 0.21', '912 ± 12')
        >>> format_value("parameters", 1484304, None), format_value("recall", None, None)
        ('1,484,304', '—')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    decimals = METRICS[metric].decimals
    if std is None or not math.isfinite(std):
        return _number(value, decimals)
    if std > 0:
        decimals = min(decimals, max(0, 1 - math.floor(math.log10(std))))
    return f"{_number(value, decimals)} ± {_number(std, decimals)}"


def _number(value: float, decimals: int) -> str:
    """Return the number with thousands separators, a true minus sign, and no negative zero."""
    return f"{value:z,.{decimals}f}".replace("-", "−")
