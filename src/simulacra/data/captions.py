"""Short captions of images, such as "a thick slanted seven": a class's name, and words for what pixels tell.

A word goes by an image's third within its class: the thickest third of the sevens is thick, the middle one medium, the
thinnest one thin. All captions there can be are numbered, so that a caption is an index as a class is.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulacra.data.attributes import ATTRIBUTES, Measure
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

UNSAID = 0
"""Side of an attribute that a caption is silent about; 1, 2 and 3 are the words for the thirds from low to high."""
SIDES = 4
REDUNDANT = 0.85
"""Rank correlation within classes from which on two attributes count as one, of which the first is told."""
WIDEST_STROKE = 1 / 8
"""Share of the image's shorter side beyond which what is measured is no stroke but the whole shape."""
FEWEST = 9
"""Images of a class below which its thirds are those of all images."""
CHUNK = 1000
ARTICLES = ("a", "an", "the")
PASSED_OVER = frozenset((*ARTICLES, "and", "image", "one", "picture"))
"""Words that a prompt may hold and that say nothing, unless a class is called so."""
NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
LISTED = 30
"""Classes that a message lists before it only counts."""


class Adjectives(NamedTuple):
    """Words for the low, middle and high third of an attribute, and how far apart thirds must lie to be seen."""

    words: tuple[str, str, str]
    visible: float


ADJECTIVES: Mapping[str, Adjectives] = {
    "slant": Adjectives(("upright", "tilted", "slanted"), 3.0),
    "thickness": Adjectives(("thin", "medium", "thick"), 0.2),
    "brightness": Adjectives(("dark", "grey", "bright"), 1.0),
}
"""By attribute, in its unit; of two that say the same the first is told, and a caption has them from last to first."""
TOLD = tuple(ADJECTIVES)
PLACES = SIDES ** np.arange(len(TOLD))


class Reading(NamedTuple):
    """What a prompt asks for: a class, or None where it names none, and one side an attribute of `TOLD`."""

    label: int | None
    sides: tuple[int, ...]


class Captions:
    """All captions of images of some classes, by index: a class's own index is the caption that says only the class.

    Caption i is of class i mod `n_classes`; i div `n_classes` holds the sides as digits of base 4, slant being the
    lowest. One index more is the empty caption.

    Args:
        class_names: one name a class.
        thirds: what `learn_thirds` returned; None where no words are known.

    Example:
        >>> captions = Captions(("7", "ankle-boot"), np.ones((2, 3, 2)) * (1, 2))
        >>> captions.text(captions.index(0, (3, 3, 0))), captions.text(1)
        ('a thick slanted seven', 'an ankle boot')
        >>> captions.read("Slanted ankle boot")
        Reading(label=1, sides=(3, 0, 0))
    """

    def __init__(self, class_names: Sequence[str], thirds: NDArray[np.floating] | None = None) -> None:
        self.n_classes = len(class_names)
        self.phrases = _phrases(class_names)
        self.thirds = np.zeros((self.n_classes, len(TOLD), 2)) if thirds is None else thirds
        self._labels = {phrase: label for label, phrase in enumerate(self.phrases)}

    def __len__(self) -> int:
        """Count the captions, the empty one left out."""
        return self.n_classes * int(SIDES ** len(TOLD))

    @property
    def told(self) -> tuple[bool, ...]:
        """Say of each attribute of `TOLD` whether captions of these images have words for it."""
        return tuple(bool((low < high).all()) for low, high in np.moveaxis(self.thirds, 0, 2))

    @property
    def words(self) -> dict[str, tuple[int, int]]:
        """Give attribute and side of each word that a caption of these images may hold beside the class."""
        told = ((place, name) for place, name in enumerate(TOLD) if self.told[place])
        return {word: (place, side + 1) for place, name in told for side, word in enumerate(ADJECTIVES[name].words)}

    def index(self, label: int, sides: Sequence[int]) -> int:
        """Return the index of a caption."""
        return label + self.n_classes * int(np.asarray(sides) @ PLACES)

    def split(self, index: int) -> tuple[int, tuple[int, ...]]:
        """Return class and sides of a caption."""
        return index % self.n_classes, tuple(int(side) for side in index // self.n_classes // PLACES % SIDES)

    def text(self, index: int) -> str:
        """Return a caption in words; nothing for the empty one."""
        words = " ".join(self._words(index))
        return words and f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    def tokens(self) -> tuple[Integers, int]:
        """Return the numbers of the words of each caption, (captions + 1, longest), and how many numbers there are.

        0 fills up; articles are left out, and the empty caption has no words at all.
        """
        known = dict.fromkeys(word for name in TOLD for word in ADJECTIVES[name].words)
        known |= dict.fromkeys(word for phrase in self.phrases for word in phrase)
        numbers = {word: number for number, word in enumerate(known, start=1)}
        rows = [[numbers[word] for word in self._words(index)] for index in range(len(self) + 1)]
        longest = max(map(len, rows))
        return np.array([row + [0] * (longest - len(row)) for row in rows], np.int64), len(numbers) + 1

    def describe(self, data: ImageSet) -> ImageSet:
        """Return labelled images with the index of the whole caption of each for a label."""
        sides = self.sides(data)
        labels = _labels(data) + self.n_classes * (sides @ PLACES)
        return ImageSet(data.images, labels, tuple(self.text(index) for index in range(len(self))))

    def sides(self, data: ImageSet) -> Integers:
        """Return the third of each labelled image in each attribute, (n, attributes): 1 to 3, or 0 where untold."""
        found = np.zeros((len(data), len(TOLD)), np.int64)
        for place in np.flatnonzero(self.told):
            values = measured(ATTRIBUTES[TOLD[place]].measure, data.images)
            found[:, place] = 1 + (values[:, None] > self.thirds[_labels(data), place]).sum(axis=1)
        return found

    def read(self, prompt: str) -> Reading:
        """Return what a prompt asks for; case, punctuation, articles and the order of the words are of no account.

        Raises:
            SimulacraError: for words that no caption holds, two classes, or two words for one attribute.
        """
        words = _split(prompt)
        labels: set[int] = set()
        sides, unknown = [UNSAID] * len(TOLD), []
        # "a" may be the name of a class, of letters for instance, but not where it begins a longer prompt.
        for phrase in self._phrases_in(words[1:] if len(words) > 1 and words[0] in ARTICLES else words):
            word = phrase[0]
            if phrase in self._labels:
                labels.add(self._labels[phrase])
            elif word in self.words:
                place, side = self.words[word]
                if sides[place] not in (UNSAID, side):
                    other = ADJECTIVES[TOLD[place]].words[sides[place] - 1]
                    raise SimulacraError(f"the prompt {prompt!r} says both {other!r} and {word!r}; say one of them")
                sides[place] = side
            elif word not in PASSED_OVER:
                unknown.append(word)
        if unknown:
            raise SimulacraError(f"the prompt {prompt!r} has unknown words: {', '.join(unknown)}; {self._known()}")
        if len(labels) > 1:
            names = ", ".join(self._name(label) for label in sorted(labels))
            raise SimulacraError(f"the prompt {prompt!r} names {len(labels)} classes, {names}; name one")
        return Reading(labels.pop() if labels else None, tuple(sides))

    def _words(self, index: int) -> list[str]:
        if index == len(self):
            return []
        label, sides = self.split(index)
        said = [ADJECTIVES[name].words[side - 1] for name, side in zip(TOLD, sides, strict=True) if side != UNSAID]
        return [*reversed(said), *self.phrases[label]]

    def _name(self, label: int) -> str:
        return " ".join(self.phrases[label])

    def _phrases_in(self, words: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Yield the names of classes among words, each the longest that fits, and other words one by one."""
        longest = max(map(len, self.phrases))
        place = 0
        while place < len(words):
            ends = range(min(place + longest, len(words)), place, -1)
            end = next((end for end in ends if tuple(words[place:end]) in self._labels), place + 1)
            yield tuple(words[place:end])
            place = end

    def _known(self) -> str:
        """Return in words what a prompt may hold."""
        names = ", ".join(self._name(label) for label in range(min(self.n_classes, LISTED)))
        more = f" and {self.n_classes - LISTED} more" if self.n_classes > LISTED else ""
        adjectives = f"the words {', '.join(self.words)}" if self.words else "no other words"
        return f"it may hold {adjectives}, and one of the classes {names}{more}"


def learn_thirds(data: ImageSet) -> Array:
    """Return between which values the middle third of each class lies in each attribute, (classes, attributes, 2).

    Both are 0 for attributes that are left out: those one of whose words is in a class's name, those whose thirds do
    not differ visibly, strokes that are none, and what another attribute says already.

    Args:
        data: labelled images.
    """
    labels, names = _labels(data), {word for phrase in _phrases(data.class_names) for word in phrase}
    found = np.zeros((data.n_classes, len(TOLD), 2))
    ranks: list[Array] = []
    for place, (name, adjectives) in enumerate(ADJECTIVES.items()):
        values = measured(ATTRIBUTES[name].measure, data.images)
        thirds = _thirds_by_class(values, labels, data.n_classes)
        if not names.isdisjoint(adjectives.words) or not _are_apart(thirds, adjectives.visible):
            continue
        if name == "thickness" and np.median(values) > WIDEST_STROKE * min(data.shape[1:]):
            continue
        rank = _ranks_by_class(values, labels)
        if all(abs(np.corrcoef(rank, other)[0, 1]) < REDUNDANT for other in ranks):
            ranks.append(rank)
            found[:, place] = thirds
    return found


def measured(measure: Measure, images: NDArray[np.uint8]) -> Array:
    """Return an attribute of many images, (n,), without holding more than a few of them as floats."""
    parts = [measure(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
    return np.concatenate([np.empty(0), *parts])


def _are_apart(thirds: Array, visible: float) -> bool:
    """Tell whether thirds differ in every class, and in half of the classes so that it can be seen."""
    spreads = thirds[:, 1] - thirds[:, 0]
    return bool(spreads.min() > 0 and np.median(spreads) >= visible)


def _thirds_by_class(values: Array, labels: Integers, n_classes: int) -> Array:
    """Return the thirds' two borders in each class, (classes, 2); in a class of few images those of all."""
    members = (values[labels == label] for label in range(n_classes))
    borders = [np.quantile(own if len(own) >= FEWEST else values, (1 / 3, 2 / 3)) for own in members]
    # As they are kept with the model's weights.
    return np.array(borders, np.float32).astype(np.float64)


def _ranks_by_class(values: Array, labels: Integers) -> Array:
    """Return how each value ranks within its class, in [0, 1]."""
    from scipy.stats import rankdata

    ranks = np.empty(len(values))
    for label in np.unique(labels):
        own = labels == label
        ranks[own] = rankdata(values[own]) / own.sum()
    return ranks


def _labels(data: ImageSet) -> Integers:
    if data.labels is None:
        raise SimulacraError("images without classes have no captions")
    return data.labels


def _split(text: str) -> list[str]:
    """Return the words of a text in lower case, numbers up to twenty spelt out."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    spaced = "".join(" " if unicodedata.category(letter)[0] in "PZC" else letter for letter in folded)
    numbers = {str(number): word for number, word in enumerate(NUMBERS)}
    return [numbers.get(word, word) for word in spaced.split()]


def _phrases(class_names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the words of each class's name; where they are none, or another class's, with its number added."""
    found: dict[tuple[str, ...], None] = {}
    for label, name in enumerate(class_names):
        phrase = tuple(_split(name))
        while not phrase or phrase in found:
            phrase = (*phrase, f"class{label}")
        found[phrase] = None
    return list(found)
