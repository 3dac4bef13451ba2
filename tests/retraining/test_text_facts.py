"""Tests of what is known of texts: shares, drift and decay on documents that are alike, and on others."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from simulacra.data.text_set import TextSet, texts_of
from simulacra.errors import SimulacraError
from simulacra.metrics.perplexity import Perplexity
from simulacra.models.gpt import GPT, GPTConfig
from simulacra.retraining.config import Margin, RetrainingConfig, WhenConfig
from simulacra.retraining.drift import classifier_test
from simulacra.retraining.facts import refuse_leak, rows_of
from simulacra.retraining.reasons import Decay, Facts, decide
from simulacra.retraining.text_facts import OPENING, gather_texts, gone, measured, n_tokens, text_features
from simulacra.training.config import TrainingConfig

WORDS = ("the", "old", "ship", "sailed", "slowly", "past", "grey", "rocks", "while", "gulls", "cried", "over", "waves")
OTHERS = ("Zug", "fährt", "jetzt", "quer", "durch", "Köln", "obwohl", "keiner", "Zeit", "für", "Dörfer", "hat")
FAMILIES = ("gpt", "pretrained")


def documents(first: int, last: int, words: tuple[str, ...] = WORDS) -> list[str]:
    """Texts of 20 to 60 words, which hang on their number alone."""
    drawn = []
    for number in range(first, last):
        rng = np.random.default_rng(number)
        drawn.append(" ".join(rng.choice(words, rng.integers(20, 60))))
    return drawn


def splits(texts: list[str]) -> dict[str, TextSet]:
    """The first half for train, of the rest as much for validation as for test."""
    half, last = len(texts) // 2, 3 * len(texts) // 4
    parts = {"train": texts[:half], "validation": texts[half:last], "test": texts[last:]}
    return {name: texts_of(part) for name, part in parts.items()}


SPLITS = splits(documents(0, 160))


def fitted(**options: Any) -> GPT:
    model = GPT(GPTConfig(**{"tokenizer": "byte", "context": 16, "width": 16, "layers": 1, "heads": 2} | options))
    model.fit(SPLITS["train"], training=TrainingConfig(steps=300, warmup_steps=10, batch_size=16), seed=0)
    return model


@pytest.fixture(scope="module")
def champion() -> GPT:
    return fitted()


def record(rows: dict[str, TextSet] | None = None) -> dict[str, Any]:
    return {
        "rows": {name: rows_of(part) for name, part in (rows or SPLITS).items()},
        "settings_sha256": "same",
        "promoted_at": (datetime.now(UTC) - timedelta(days=3)).isoformat(),
    }


def joined(fresh: list[str]) -> dict[str, TextSet]:
    """The known documents, and fresh ones in all three parts."""
    added = splits(fresh)
    return {name: texts_of([*part, *added[name]]) for name, part in SPLITS.items()}


def test_a_document_is_known_again_by_its_bytes() -> None:
    assert rows_of(texts_of(["one", "two"])) == rows_of(texts_of(["zero", "one", "two"]))[1:]


def test_a_champion_that_saw_test_documents_is_not_judged_by_them() -> None:
    rows = record()["rows"]
    refuse_leak(rows, SPLITS["test"], "document")
    with pytest.raises(SimulacraError, match=r"trained on 2 of today's 3 test documents.*by which each document stays"):
        refuse_leak(rows, texts_of(["fresh", SPLITS["train"][0], SPLITS["validation"][3]]), "document")


def test_without_a_champion_nothing_is_known() -> None:
    facts, found = gather_texts("toy", FAMILIES, None, {}, None, SPLITS, "", 0)
    assert facts.champion is None and facts.new_share is None and found == {}


def test_the_same_documents_are_no_news_in_whatever_order(champion: GPT) -> None:
    turned = {name: part.take(range(len(part))[::-1]) for name, part in SPLITS.items()}
    facts, found = gather_texts("toy", FAMILIES, "gpt", record(), champion, turned, "same", 0)
    assert facts.unchanged and facts.new_share == 0 and facts.drift is facts.decay is None
    assert found == {"fresh": 0, "known": 160, "settings_changed": False}
    assert facts.age_days == pytest.approx(3, abs=0.01)
    other, found = gather_texts("toy", FAMILIES, "gpt", record(), champion, SPLITS, "other", 0)
    assert not other.unchanged and found["settings_changed"]


def test_what_is_new_is_told_by_bytes(champion: GPT) -> None:
    long = "one long document " * 400
    today = SPLITS | {"train": texts_of([*SPLITS["train"], long])}
    facts, found = gather_texts("toy", FAMILIES, "gpt", record(), champion, today, "same", 0)
    assert facts.new_share == pytest.approx(len(long) / (len(long) + SPLITS["train"].n_bytes))
    assert found["fresh"] == 1 and facts.drift is facts.decay is None, "of one document nothing is said"


def test_a_document_that_comes_often_counts_once(champion: GPT) -> None:
    today = SPLITS | {"train": texts_of([*SPLITS["train"], *["again and again"] * 30])}
    facts, found = gather_texts("toy", FAMILIES, "gpt", record(), champion, today, "same", 0)
    assert found["fresh"] == 1 and facts.drift is None


def test_fresh_documents_of_the_same_kind_have_not_drifted_and_those_in_another_language_have(champion: GPT) -> None:
    told = {}
    for name, words in (("alike", WORDS), ("other", OTHERS)):
        today = joined(documents(1000, 1080, words))
        told[name], found = gather_texts("toy", FAMILIES, "gpt", record(), champion, today, "same", 0, limit=8000)
        assert found["fresh"] == 80 and found["known"] == 160 and found["classifier"]["n"] == 80
        assert told[name].drift is not None and told[name].decay is not None
    assert told["alike"].drift.p > 0.01 > told["other"].drift.p and "capitals" in told["other"].drift.moved
    decisions = {name: decide(facts, RetrainingConfig()) for name, facts in told.items()}
    reasons = {name: {each.reason: each for each in decision.reasons} for name, decision in decisions.items()}
    assert not reasons["alike"]["decay"].retrain and reasons["other"]["decay"].retrain
    assert "the champion's Bits/byte was" in reasons["other"]["decay"].words
    # The measure is the contract's own, over documents that the champion was not fitted to.
    then = told["alike"].decay.then
    whole = champion.perplexity([*SPLITS["validation"], *SPLITS["test"]]).bits_per_byte
    assert then.value == pytest.approx(whole, abs=3 * then.std / math.sqrt(then.n_seeds))
    assert 3500 <= then.n_seeds * SPLITS["test"].n_bytes / len(SPLITS["test"]) <= 5000, "half of the limit a side"


def test_of_long_documents_the_opening_is_read(champion: GPT) -> None:
    """What follows costs nothing and changes nothing; how long a document is, is told all the same."""
    openings = [(text * 40)[:OPENING] for text in documents(2000, 2012)]
    told = []
    for end in ("", " und so weiter" * 2000):
        today = joined([text + end for text in openings])
        told.append(gather_texts("toy", FAMILIES, "gpt", record(), champion, today, "same", 0, limit=1))
    (short, _), (long, found) = told
    assert short.decay is not None and short.decay == long.decay
    assert found["statistics"]["length"]["after"] == OPENING + 28_000 and "length" in found["moved"]


def test_documents_that_the_champion_has_no_tokens_for_are_left_out() -> None:
    model = fitted(tokenizer="character")
    assert n_tokens(model, "the old ship") == 13 and n_tokens(model, "Köln") is None
    today = joined(documents(1000, 1020, OTHERS))
    facts, found = gather_texts("toy", FAMILIES, "gpt", record(), model, today, "same", 0)
    assert facts.decay is None and facts.drift is not None and found["fresh"] == 20


def test_the_spread_of_a_ratio_is_that_of_documents_drawn_anew() -> None:
    """Standard error by the closed form, and as 4,000 draws of the same number of documents show it."""
    rng = np.random.default_rng(0)

    def drawn(n: int) -> list[Perplexity]:
        n_bytes = rng.integers(200, 4000, n)
        rates = rng.normal(2, 0.3, n) + 100 / n_bytes  # what begins costs more
        return [
            Perplexity(rate * math.log(2) * size, 1, int(size), 1, 8, 4)
            for rate, size in zip(rates, n_bytes, strict=True)
        ]

    found = [measured(drawn(40)) for _ in range(4000)]
    errors = np.array([each.std / math.sqrt(each.n_seeds) for each in found])
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(np.std([each.value for each in found]), rel=0.05)


def test_of_equal_documents_a_decay_is_seldom_told() -> None:
    """Level 0.05, both signs together, of which one is a decay."""
    rng, told = np.random.default_rng(1), 0
    config = RetrainingConfig(when=WhenConfig(decay=Margin(absolute=0)))
    for _ in range(1000):
        sides = []
        for n in (20, 35):
            sizes = rng.integers(200, 4000, n)
            nats = rng.normal(2, 0.3, n) * sizes * math.log(2)
            parts = [Perplexity(float(each), 1, int(size), 1, 8, 4) for each, size in zip(nats, sizes, strict=True)]
            sides.append(measured(parts))
        facts = Facts("toy", FAMILIES, champion="gpt", decay=Decay("bits_per_byte", *sides))
        told += next(each for each in decide(facts, config).reasons if each.reason == "decay").retrain
    assert 0.01 <= told / 1000 <= 0.04  # 0.025, ± 3 standard errors


def test_documents_that_were_changed_or_removed_are_counted() -> None:
    train = list(SPLITS["train"])
    today = [texts_of([train[0] + "!", *train[2:10]]), texts_of(train[10:]), SPLITS["test"]]
    assert gone(record(), SPLITS.values()) == 0 and gone(record(), today) == 2


def test_features_know_nothing_of_sides() -> None:
    """In whatever order documents come, each has the same features, up to the sign of a direction."""
    texts = documents(0, 60)
    order = np.random.default_rng(0).permutation(60)
    one, other = text_features(texts, 0)[order], text_features([texts[place] for place in order], 0)
    assert one.shape == (60, 32)
    np.testing.assert_allclose(np.abs(one[:, :4]), np.abs(other[:, :4]), atol=1e-3)


def test_the_classifier_test_of_texts_holds_its_level() -> None:
    """19 relabellings of which none may do as well reject at exactly 1 in 20; ties make it less."""
    rejected = 0
    for seed in range(80):
        features = text_features(documents(100 * seed, 100 * seed + 24), seed)
        found = classifier_test(features[:12], features[12:], permutations=19, exceedances=1, seed=seed)
        rejected += found.p <= 0.05
    assert rejected <= 10  # 4 ± 2


def test_two_short_texts_have_features_too() -> None:
    assert text_features(["a", "b"], 0).shape == (2, 1)
