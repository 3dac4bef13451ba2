"""Design a study: which images are shown, in which order and on which side; only its key knows what they are."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError
from simulacra.human.config import StudyConfig

REAL, NOISE = "<real>", "<noise>"
"""What is shown beside families' samples; no family can have such a name."""
ANSWERS = {"real_or_fake": ("real", "generated"), "preference": ("left", "right")}
"""The two answers to a question of each mode, in the order of their buttons."""

Pair = tuple[str, str]


class Shown(NamedTuple):
    """One image of a trial: where it comes from, and its place there."""

    source: str
    row: int


class Trial(NamedTuple):
    """One question.

    Args:
        id: tells nothing of what is shown.
        mode: a key of `ANSWERS`.
        shown: one image, or the left and the right one.
        expected: the obvious answer of an attention check; empty for a question.
    """

    id: str
    mode: str
    shown: tuple[Shown, ...]
    expected: str = ""


@dataclass(frozen=True)
class Study:
    """All questions, in an order that tells nothing.

    Args:
        id: hash of the questions and their pixels; answers carry it.
        seed: with which they were chosen.
        trials: mode by mode.
        sources: the images that the trials point at.
    """

    id: str
    seed: int
    trials: tuple[Trial, ...]
    sources: Mapping[str, ImageSet]

    def pixels(self, shown: Shown) -> NDArray[np.uint8]:
        """Return one image, (channels, height, width)."""
        image: NDArray[np.uint8] = self.sources[shown.source].images[shown.row]
        return image

    def key(self) -> dict[str, Any]:
        """Return what was shown in each trial, fit for JSON."""
        families = sorted(source for source in self.sources if source not in (REAL, NOISE))
        return {"study": self.id, "seed": self.seed, "families": families, "trials": _told(self.trials)}


def design(real: ImageSet, made: Mapping[str, ImageSet], config: StudyConfig, *, seed: int) -> Study:
    """Choose images and put the questions in order.

    In `real_or_fake` one half of the images is real, the other shared out evenly over families. In `preference` all
    pairs of families meet equally often, give or take one, and each is left as often as right. Nobody sees an image
    twice.

    Args:
        real: images that no family was fitted to.
        made: samples of each family.
        config: how many questions, of which modes.
        seed: the same seed gives the same study.

    Raises:
        SimulacraError: where there are too few images, or one family only and nothing asked but preferences.
    """
    modes = [mode for mode in config.modes if mode != "preference" or len(made) > 1]
    if not modes:
        raise SimulacraError("a preference is between two families: name more, or set human_study.modes=real_or_fake")
    rng = np.random.default_rng(seed)
    shares = _shares(config.trials, len(modes))
    n_checks = [round(config.checks * n) for n in shares]
    noise = ImageSet(rng.integers(0, 256, (sum(n_checks), *real.shape), dtype=np.uint8))
    sources = {REAL: real, NOISE: noise, **dict(sorted(made.items()))}
    pools = {source: iter(rng.permutation(len(images)).tolist()) for source, images in sources.items()}
    ids = (f"{number:08x}" for number in rng.choice(2**32, config.trials, replace=False).tolist())
    trials: list[Trial] = []
    for mode, n, checks in zip(modes, shares, n_checks, strict=True):
        families = [str(name) for name in rng.permutation(sorted(made))]
        questions = _singles if mode == "real_or_fake" else _pairs
        asked = [*questions(families, n - checks), *_checks(mode, checks)]
        order = rng.permutation(len(asked))
        trials += [_trial(next(ids), mode, asked[place], pools) for place in order]
    return Study(_fingerprint(trials, sources), seed, tuple(trials), sources)


def round_robin(members: Sequence[str]) -> list[Pair]:
    """Return every pair once, so that in any beginning of the list members occur equally often, give or take one.

    Example:
        >>> round_robin(["a", "b", "c"])
        [('b', 'c'), ('a', 'c'), ('a', 'b')]
    """
    ring: list[str | None] = [*members, *([None] if len(members) % 2 else [])]
    pairs: list[Pair] = []
    for _ in range(len(ring) - 1):
        half = len(ring) // 2
        facing = zip(ring[:half], reversed(ring[half:]), strict=True)
        pairs += [(one, other) for one, other in facing if one is not None and other is not None]
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return pairs


def turned(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the same pairs, each so turned that every member is left as often as right, give or take one.

    A pair that occurs twice is turned both ways. The rest are edges of a graph, and are turned as one passes along them
    on trails through it, which leave every member as often as they enter it, but for its two ends.
    """
    seen: Counter[Pair] = Counter((min(pair), max(pair)) for pair in pairs)
    result = [way for pair, n in seen.items() for way in (pair, pair[::-1]) for _ in range(n // 2)]
    left = [pair for pair, n in seen.items() if n % 2]
    while left:
        degrees = Counter(member for pair in left for member in pair)
        here = next((member for member, degree in degrees.items() if degree % 2), left[0][0])
        while edge := next((pair for pair in left if here in pair), None):
            left.remove(edge)
            there = edge[1] if here == edge[0] else edge[0]
            result.append((here, there))
            here = there
    return result


def _shares(n: int, parts: int) -> list[int]:
    """Share n out evenly; the first parts get what is left over."""
    return [n // parts + (part < n % parts) for part in range(parts)]


def _singles(families: Sequence[str], n: int) -> Sequence[tuple[str, ...]]:
    """Return what is shown alone: one half real, the rest of every family in turn."""
    generated = n - n // 2
    return [(REAL,)] * (n // 2) + [(families[place % len(families)],) for place in range(generated)]


def _pairs(families: Sequence[str], n: int) -> Sequence[tuple[str, ...]]:
    """Return what is shown side by side: every pair equally often."""
    once = round_robin(families)
    return turned([once[place % len(once)] for place in range(n)])


def _checks(mode: str, n: int) -> list[tuple[str, ...]]:
    """Return attention checks: noise alone, or noise beside a real image, as often left as right."""
    if mode == "real_or_fake":
        return [(NOISE,)] * n
    return [(NOISE, REAL) if place % 2 else (REAL, NOISE) for place in range(n)]


def _trial(trial_id: str, mode: str, sources: tuple[str, ...], pools: Mapping[str, Iterator[int]]) -> Trial:
    return Trial(trial_id, mode, tuple(Shown(each, _next(each, pools)) for each in sources), _expected(mode, sources))


def _expected(mode: str, sources: tuple[str, ...]) -> str:
    """Return the obvious answer where noise is shown; empty where it is not."""
    if NOISE not in sources:
        return ""
    return "generated" if mode == "real_or_fake" else ANSWERS[mode][1 - sources.index(NOISE)]


def _next(source: str, pools: Mapping[str, Iterator[int]]) -> int:
    row = next(pools[source], None)
    if row is None:
        what = "test images" if source == REAL else f"samples of {source}"
        raise SimulacraError(f"the study needs more {what} than there are: lower human_study.trials")
    return row


def _told(trials: Sequence[Trial]) -> dict[str, Any]:
    return {
        trial.id: {
            "mode": trial.mode,
            "shown": [shown._asdict() for shown in trial.shown],
            "expected": trial.expected or None,
        }
        for trial in trials
    }


def _fingerprint(trials: Sequence[Trial], sources: Mapping[str, ImageSet]) -> str:
    """Return a short hash of all that is asked."""
    digest = hashlib.sha256(json.dumps(_told(trials)).encode())
    for shown in (shown for trial in trials for shown in trial.shown):
        digest.update(np.ascontiguousarray(sources[shown.source].images[shown.row]).data)
    return digest.hexdigest()[:12]
