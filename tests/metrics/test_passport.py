import copy
import hashlib
import importlib.metadata

import numpy as np
import pytest

from simulacra.errors import SimulacraError
from simulacra.metrics.passport import library_versions, passport_id, summarise

PASSPORT = {
    "extractors": {
        "classifier": {
            "name": "classifier",
            "sha256": "ab" * 32,
            "test_accuracy": 0.97,
            "resizer": "none",
            "input": "uint8 / 127.5 - 1",
        },
    },
    "n_real": 1000,
    "n_generated": 1000,
    "reference_sha256": "cd" * 32,
    "compared": "generated images with the test split",
    "seeds": [0, 1, 2],
    "ema": True,
    "likelihood": "exact",
    "versions": {"torch": "2.15.0"},
}


def changed(**fields: object) -> dict[str, object]:
    return copy.deepcopy(PASSPORT) | fields


def with_extractor(**fields: object) -> dict[str, object]:
    return changed(extractors={"classifier": PASSPORT["extractors"]["classifier"] | fields})


@pytest.mark.parametrize(
    "same",
    [
        changed(ema=None),
        changed(likelihood=None),
        changed(compared="random halves"),
        changed(versions={}),
        changed(seeds=[7, 8, 9]),
        with_extractor(test_accuracy=0.5),
        dict(reversed(PASSPORT.items())),
    ],
)
def test_rows_that_differ_in_themselves_only_stay_comparable(same):
    assert passport_id(same) == passport_id(PASSPORT)


@pytest.mark.parametrize(
    "other",
    [
        changed(n_real=999),
        changed(n_generated=999),
        changed(reference_sha256="ef" * 32),
        changed(seeds=[0, 1]),
        changed(condition="class"),
        with_extractor(name="other"),
        with_extractor(sha256="ba" * 32),
        with_extractor(resizer="bilinear"),
        with_extractor(input="uint8 / 255"),
        changed(extractors=PASSPORT["extractors"] | {"inception": {"name": "inception"}}),
    ],
)
def test_rows_measured_otherwise_are_not_comparable(other):
    assert passport_id(other) != passport_id(PASSPORT)


def test_id_opens_the_sha256_of_sorted_json():
    text = '{"extractors":{"a":{"name":"a"}},"n_real":5,"seeds":2}'
    extractors = {"a": {"test_accuracy": 1.0, "name": "a"}}
    passport = {"seeds": [3, 4], "n_real": 5, "extractors": extractors, "ema": False}
    assert passport_id(passport) == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_passport_is_left_as_it_was():
    passport = copy.deepcopy(PASSPORT)
    passport_id(passport)
    assert passport == PASSPORT


@pytest.mark.parametrize("n_real", [float("nan"), np.int64(5)])
def test_what_json_cannot_hold_is_refused(n_real):
    with pytest.raises(SimulacraError, match="passport cannot be written as JSON"):
        passport_id(changed(n_real=n_real))


def test_versions_are_those_installed():
    versions = library_versions()
    assert versions["numpy"] == np.__version__
    assert {"torch", "scipy"} <= set(versions)


def test_versions_leave_out_what_is_missing(monkeypatch):
    def version(name: str) -> str:
        if name != "scipy":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr("simulacra.metrics.passport.version", version)
    assert library_versions() == {"scipy": "1.2.3"}


def test_summary_has_mean_and_sample_deviation():
    values = [3.1, 2.9, 3.6, 3.0]
    assert summarise(values) == {
        "value": pytest.approx(np.mean(values)),
        "std": pytest.approx(np.std(values, ddof=1)),
        "per_seed": values,
    }


def test_summary_of_one_seed_has_no_deviation():
    assert summarise([2.5]) == {"value": 2.5, "std": None, "per_seed": [2.5]}


def test_summary_holds_plain_floats():
    summary = summarise([np.float32(1), np.float32(2)])
    assert [type(value) for value in summary["per_seed"]] == [float, float]


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.0, np.nan, np.inf], r"2 of 3 seeds .*\(positions \[1, 2\]\)"), ([], "0 of 0 seeds")],
)
def test_summary_refuses_what_is_not_finite(values, message):
    with pytest.raises(SimulacraError, match=message):
        summarise(values)
