"""What captions say of images, and what prompts are understood to ask for."""

import numpy as np
import pytest

from simulacra.data.attributes import brightness
from simulacra.data.captions import ADJECTIVES, REDUNDANT, SIDES, TOLD, Captions, Reading, learn_thirds, measured
from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet
from simulacra.errors import SimulacraError

DIGITS = tuple(map(str, range(10)))
FASHION = ("t-shirt", "shirt", "ankle-boot", "bag")


def of(*names: str) -> Captions:
    """Captions that may hold every word."""
    return Captions(names, np.tile([1.0, 2.0], (len(names), len(TOLD), 1)))


def bars(n: int = 300, *, seed: int = 0, size: int = 24, level: float | None = None) -> ImageSet:
    """Upright and leaning bars of any width, slant and brightness, independently; the second class is wider."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    lean, width = rng.uniform(-25, 25, (n, 1, 1)), rng.uniform(1, 2, (n, 1, 1)) + labels[:, None, None]
    across = x + np.tan(np.radians(lean)) * y
    ink = np.clip(width / 2 + 0.5 - np.abs(across), 0, 1) * np.clip(8.5 - np.abs(y), 0, 1)
    levels = rng.uniform(60, 255, (n, 1, 1)) if level is None else level
    return ImageSet(np.rint(levels * ink).astype(np.uint8)[:, None], labels, ("1", "l"))


@pytest.mark.parametrize(
    ("names", "prompt", "expected"),
    [
        (DIGITS, "a thick slanted seven", Reading(7, (3, 3, 0))),
        (DIGITS, "Seven: SLANTED, and thick!", Reading(7, (3, 3, 0))),
        (DIGITS, "the 7", Reading(7, (0, 0, 0))),
        (DIGITS, "a medium upright zero", Reading(0, (1, 2, 0))),
        (DIGITS, "a thin picture", Reading(None, (0, 1, 0))),
        (DIGITS, "a thick one", Reading(1, (0, 3, 0))),
        (FASHION, "a thick one", Reading(None, (0, 3, 0))),
        (FASHION, "an ankle boot", Reading(2, (0, 0, 0))),
        (FASHION, "a bright T-shirt", Reading(0, (0, 0, 3))),
        (FASHION, "dark dark shirt", Reading(1, (0, 0, 1))),
        (FASHION, "", Reading(None, (0, 0, 0))),
        (("A", "B"), "a thick A", Reading(0, (0, 3, 0))),
        (("A", "B"), "a b", Reading(1, (0, 0, 0))),
        (("A", "B"), "a", Reading(0, (0, 0, 0))),
        (("cat_01", "cat_02"), "a thin Cat 02", Reading(1, (0, 1, 0))),
        (("Katze", "Füchschen", "猫"), "ein FÜCHSCHEN".removeprefix("ein "), Reading(1, (0, 0, 0))),
        (("Katze", "Füchschen", "猫"), "a thick 猫", Reading(2, (0, 3, 0))),
        (("cat", "CAT", "?!"), "cat class1", Reading(1, (0, 0, 0))),
        (("cat", "CAT", "?!"), "a thin class2", Reading(2, (0, 1, 0))),
    ],
)
def test_prompts_are_read_whatever_their_case_punctuation_and_order(
    names: tuple[str, ...], prompt: str, expected: Reading
) -> None:
    assert of(*names).read(prompt) == expected


@pytest.mark.parametrize(
    ("captions", "prompt", "said"),
    [
        (
            of(*DIGITS),
            "a furry thick seven with ears",
            r"unknown words: furry, with, ears; it may hold the words upri",
        ),
        (of(*DIGITS), "a furry seven", "one of the classes zero, one, two, three"),
        (of(*DIGITS), "a seven and a three", "names 2 classes, three, seven; name one"),
        (of(*DIGITS), "a thin thick seven", "says both 'thin' and 'thick'"),
        (of(*FASHION), "a boot", "unknown words: boot; .*ankle boot, bag"),
        (Captions(FASHION), "a thick bag", "unknown words: thick; it may hold no other words, and one of the classes"),
        (of(*(f"c{n}" for n in range(99))), "a dog", "c29 and 69 more"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_sentence(captions: Captions, prompt: str, said: str) -> None:
    with pytest.raises(SimulacraError, match=said):
        captions.read(prompt)


@pytest.mark.parametrize("names", [DIGITS, FASHION, ("a", "b"), ("cat", "Cat", "", "thick")])
def test_every_caption_is_understood_as_what_it_says(names: tuple[str, ...]) -> None:
    captions = of(*names)
    for index in range(len(captions)):
        label, sides = captions.split(index)
        assert captions.index(label, sides) == index
        # A class called as a word is meant where both could be; such words are never learnt.
        if "thick" not in names or "thick" not in captions.text(index):
            assert captions.read(captions.text(index)) == (label, sides), captions.text(index)
    assert captions.text(len(captions)) == ""


def test_a_class_index_is_the_caption_of_the_class_alone() -> None:
    captions = of(*DIGITS)
    assert [captions.text(label) for label in (0, 7, 8)] == ["a zero", "a seven", "an eight"]
    assert len(captions) == 10 * SIDES ** len(TOLD)
    assert captions.text(captions.index(7, (3, 3, 0))) == "a thick slanted seven"


def test_tokens_are_one_row_a_caption_and_none_like_another() -> None:
    tokens, n_words = of(*FASHION).tokens()
    assert len(tokens) == len(of(*FASHION)) + 1 and tokens.max() < n_words
    assert len(np.unique(tokens, axis=0)) == len(tokens)
    assert tokens[-1].tolist() == [0] * tokens.shape[1], "the empty caption"
    t_shirt, shirt = tokens[0], tokens[1]
    assert t_shirt[1] == shirt[0], "names share their words"


def test_words_are_of_thirds_within_the_class() -> None:
    data = bars()
    captions = Captions(data.class_names, learn_thirds(data))
    sides = captions.sides(data)
    assert captions.told[0] and captions.told[1]
    for label in (0, 1):
        for place in np.flatnonzero(captions.told):
            counts = np.bincount(sides[data.labels == label, place], minlength=SIDES)
            assert counts[0] == 0 and counts[1:] == pytest.approx([50] * 3, abs=2)
    described = captions.describe(data)
    assert (described.labels % 2 == data.labels).all()
    assert [captions.split(int(index)) for index in described.labels[:20]] == [
        (int(label), tuple(map(int, each))) for label, each in zip(data.labels[:20], sides[:20], strict=True)
    ]
    widths = [learn_thirds(data)[label, 1] for label in (0, 1)]
    assert widths[0][1] < widths[1][0], "a thin bar of the wide class is wider than a thick one of the narrow class"


def test_of_two_attributes_that_say_the_same_one_is_left_out() -> None:
    ranks = np.corrcoef(*(measured(each, bars(level=255).images).argsort().argsort() for each in (brightness, width)))
    assert ranks[0, 1] > REDUNDANT
    assert Captions(("1", "l"), learn_thirds(bars(level=255))).told == (True, True, False)
    assert Captions(("1", "l"), learn_thirds(bars())).told == (True, True, True)


def width(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2, 3)) + 1.0


def test_words_that_mean_nothing_are_left_out() -> None:
    data = bars()
    flat = ImageSet(np.zeros_like(data.images), data.labels, data.class_names)
    assert Captions(data.class_names, learn_thirds(flat)).words == {}
    rng = np.random.default_rng(0)
    photographs = ImageSet(rng.integers(0, 256, (60, 3, 32, 32), np.uint8), np.arange(60) % 2, ("x", "y"))
    assert not Captions(("x", "y"), learn_thirds(photographs)).told[0], "noise leans nowhere"
    plates = ImageSet(np.kron(data.images[:, :, 8:16, 8:16], np.ones((1, 1, 3, 3), np.uint8)), data.labels, ("1", "l"))
    assert not Captions(("1", "l"), learn_thirds(plates)).told[1], "what fills the image has no strokes"
    renamed = ImageSet(data.images, data.labels, ("thick", "l"))
    assert not Captions(renamed.class_names, learn_thirds(renamed)).told[1], "the word is a class's name"


def test_classes_of_few_images_have_the_thirds_of_all() -> None:
    data = bars(301)
    few = ImageSet(data.images, np.where(np.arange(301) == 0, 1, 0), ("many", "one"))
    thirds = learn_thirds(few)
    assert thirds[1] == pytest.approx(thirds[0], abs=0.3) and (thirds[:, 0, 0] < thirds[:, 0, 1]).all()
    nobody = learn_thirds(ImageSet(data.images, np.zeros(301, np.int64), ("all", "none")))
    assert (nobody[0] == nobody[1]).all()


def test_fabricated_colours_are_described() -> None:
    data = fabricate_images(n=60, size=9, channels=3, n_classes=2, seed=1)
    captions = Captions(data.class_names, learn_thirds(data))
    assert captions.words and (captions.sides(data)[:, np.flatnonzero(captions.told)] > 0).all()


def test_all_words_differ() -> None:
    words = [word for adjectives in ADJECTIVES.values() for word in adjectives.words]
    assert len(set(words)) == len(words) == 9
