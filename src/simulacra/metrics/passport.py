"""The conditions under which a metric was measured, and the identity that says which rows may be ranked together."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from simulacra.errors import SimulacraError

ROW_FIELDS = frozenset({"versions", "ema", "likelihood", "compared", "origin"})
"""Passport fields that describe the row rather than the measurement, and so do not keep two rows apart."""

EXTRACTOR_ROW_FIELDS = frozenset({"test_accuracy"})
"""The same within each of `extractors`: the accuracy follows from the weights, which their sha256 identifies."""

LIBRARIES = ("torch", "numpy", "scipy", "simulacra")


def passport_id(passport: Mapping[str, Any]) -> str:
    """Return 12 hexadecimal digits, equal for two rows exactly when they may stand in one ranking.

    That is when they agree in extractors (name, weights, resizer, scaling of each), number of real and of generated
    samples, reference split, and number of seeds; any further field counts too unless `ROW_FIELDS` or
    `EXTRACTOR_ROW_FIELDS` names it. The digits open the sha256 of that part as JSON with sorted keys.

    Raises:
        SimulacraError: where the passport holds what JSON cannot, such as NaN.

    Example:
        >>> row = {"n_real": 1000, "n_generated": 1000, "seeds": [0, 1, 2], "ema": True}
        >>> passport_id(row) == passport_id(row | {"seeds": [3, 4, 5], "ema": None})
        True
        >>> passport_id(row) == passport_id(row | {"n_generated": 999})
        False
    """
    comparable = {key: value for key, value in passport.items() if key not in ROW_FIELDS}
    if "seeds" in comparable:
        comparable["seeds"] = len(comparable["seeds"])
    if isinstance(extractors := comparable.get("extractors"), Mapping):
        comparable["extractors"] = {
            name: {key: value for key, value in extractor.items() if key not in EXTRACTOR_ROW_FIELDS}
            for name, extractor in extractors.items()
        }
    try:
        text = json.dumps(comparable, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SimulacraError(f"passport cannot be written as JSON ({error}); use plain finite numbers") from error
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(ours: Mapping[str, Any], others: Mapping[str, Any], whose: str) -> list[str]:
    """Return one phrase for every entry that keeps the two passports out of one ranking.

    Args:
        ours: a passport.
        others: what it is compared with.
        whose: what a phrase calls that one's entry.

    Example:
        >>> differences({"n_real": 1000, "ema": True}, {"n_real": 500}, "the floor's")
        ["n_real 1000, the floor's 500"]
    """
    flat, reference = _comparable_part(ours), _comparable_part(others)
    unequal = [key for key in {**reference, **flat} if flat.get(key) != reference.get(key)]
    return [f"{key} {_brief(flat.get(key))}, {whose} {_brief(reference.get(key))}" for key in unequal]


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the nested record as one level, with dotted keys.

    Example:
        >>> flatten({"n": 3, "extractor": {"name": "classifier"}})
        {'n': 3, 'extractor.name': 'classifier'}
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def library_versions() -> dict[str, str]:
    """Return the installed versions of `LIBRARIES`, leaving out what is not installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def summarise(per_seed: Sequence[float]) -> dict[str, float | list[float] | None]:
    """Return the record of one metric: mean, sample standard deviation (ddof 1; None with one seed), and all values.

    Raises:
        SimulacraError: where there are no values or some are not finite.

    Example:
        >>> summarise([1.0, 2.0, 3.0])
        {'value': 2.0, 'std': 1.0, 'per_seed': [1.0, 2.0, 3.0]}
    """
    values = [float(value) for value in per_seed]
    bad = [seed for seed, value in enumerate(values) if not math.isfinite(value)]
    if bad or not values:
        raise SimulacraError(
            f"{len(bad)} of {len(values)} seeds gave a number that is not finite (positions {bad}); "
            "a metric needs a finite one from each seed"
        )
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    std = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None
    return {"value": mean, "std": std, "per_seed": values}


def _comparable_part(passport: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that `passport_id` looks at, dotted; of the seeds their number."""
    flat = flatten({key: value for key, value in passport.items() if key not in ROW_FIELDS})
    if "seeds" in flat:
        flat["number of seeds"] = len(flat.pop("seeds"))
    left_out = {f"extractors.{name}.{key}" for name in passport.get("extractors", ()) for key in EXTRACTOR_ROW_FIELDS}
    return {key: value for key, value in flat.items() if key not in left_out}


def _brief(value: Any) -> str:
    """Return the entry in few characters: a hash needs only its first twelve."""
    text = "—" if value is None else str(value)
    return text if len(text) <= 32 else text[:12] + "…"
