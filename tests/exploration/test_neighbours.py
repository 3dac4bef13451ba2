import numpy as np

from simulacra.data.image_set import ImageSet
from simulacra.exploration.neighbours import SHOWN, beside_training


class Pixels:
    """The pixels are the features."""

    def features(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)


def images(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 4, 4), np.uint8)


def test_a_copy_stands_first_above_its_training_image() -> None:
    train, samples = images(60, 0), images(40, 1)
    samples[7] = train[31]
    panel = beside_training(ImageSet(samples), ImageSet(train), Pixels())
    assert panel.images.shape == (4, SHOWN, 1, 4, 4) and len(panel.footer) == SHOWN
    np.testing.assert_array_equal(panel.images[2:, 0], np.stack([train[31], train[31]]))
    assert panel.footer[0] == "0.00" and float(panel.footer[1]) > 0.3
    np.testing.assert_array_equal(panel.images[0], samples[:SHOWN])
    distances = [np.linalg.norm(samples[0].astype(float) - each) for each in train]
    np.testing.assert_array_equal(panel.images[1, 0], train[int(np.argmin(distances))])


def test_the_number_is_in_units_of_the_training_image_s_own_neighbour() -> None:
    train = np.zeros((3, 1, 1, 1), np.uint8)
    train[:, 0, 0, 0] = 0, 10, 100
    samples = np.full((SHOWN, 1, 1, 1), 200, np.uint8)
    samples[0] = 105
    panel = beside_training(ImageSet(samples), ImageSet(train), Pixels())
    assert panel.footer[0] == f"{5 / 90:.2f}"


def test_an_image_with_a_double_is_said_to_have_one() -> None:
    train = images(20, 2)
    train[1] = train[0]
    panel = beside_training(ImageSet(np.repeat(train[:1], 12, axis=0)), ImageSet(train), Pixels())
    assert set(panel.footer) == {"double"}


def test_fewer_samples_than_are_shown() -> None:
    panel = beside_training(ImageSet(images(3, 3)), ImageSet(images(20, 4)), Pixels())
    assert panel.images.shape[:2] == (4, 3)
