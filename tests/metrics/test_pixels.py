import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from simulacra.errors import SimulacraError
from simulacra.metrics.pixels import intensity_distance, radial_spectrum, spectral_distance


def draw(n: int, seed: int, shape: tuple[int, ...] = (1, 8, 8), high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, (n, *shape), np.uint8)


@pytest.mark.parametrize("n", [5, 9])
def test_intensity_distance_agrees_with_scipy_channel_by_channel(n):
    real, generated = draw(5, 0, (3, 8, 8)), draw(n, 1, (3, 8, 8), high=200)
    expected = [wasserstein_distance(real[:, c].ravel(), generated[:, c].ravel()) for c in range(3)]
    assert intensity_distance(real, generated) == pytest.approx(np.mean(expected), rel=1e-12)


def test_intensity_distance_does_not_see_where_pixels_lie():
    images = draw(4, 2)
    assert intensity_distance(images, images[:, :, ::-1]) == 0
    assert intensity_distance(np.zeros_like(images), np.full_like(images, 255)) == 255


@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (8, 7), (6, 12)])
def test_spectrum_agrees_with_a_whole_transform(shape):
    """Rings of the full Fourier plane, mirror images included."""
    images = draw(3, 3, (2, *shape))
    height, width = shape
    power = np.square(np.abs(np.fft.fft2(images))).mean(axis=(0, 1))
    side = min(shape)
    radius = np.hypot(np.fft.fftfreq(height)[:, None] * side, np.fft.fftfreq(width) * side)
    expected = [power[np.rint(radius) == ring].mean() for ring in range(side // 2 + 1)]
    np.testing.assert_allclose(radial_spectrum(images), expected, rtol=1e-12)


def test_a_wave_has_its_power_at_its_frequency():
    x = np.arange(16)
    wave = np.rint(127 + 100 * np.cos(2 * np.pi * 3 * x / 16)).astype(np.uint8)
    spectrum = radial_spectrum(np.broadcast_to(wave, (1, 1, 16, 16)))
    assert spectrum[1:].argmax() + 1 == 3
    assert spectrum[3] > 1e4 * np.delete(spectrum, [0, 3]).max()


def test_blur_is_seen_in_the_spectrum_and_hardly_in_the_histogram():
    generator = np.random.default_rng(4)
    real = (generator.normal(128, 30, (50, 1, 16, 16))).clip(0, 255).astype(np.uint8)
    again = (generator.normal(128, 30, (50, 1, 16, 16))).clip(0, 255).astype(np.uint8)
    blurred = ((real.astype(float) + np.roll(real, 1, axis=3) + np.roll(real, 1, axis=2)) / 3).astype(np.uint8)
    assert spectral_distance(real, again) < 0.5
    assert spectral_distance(real, blurred) > 3


def test_black_images_are_at_a_finite_distance_and_at_none_from_themselves():
    black = np.zeros((3, 1, 8, 8), np.uint8)
    assert spectral_distance(black, black) == 0
    assert 10 < spectral_distance(draw(3, 5), black) < 100


def test_images_are_checked():
    with pytest.raises(SimulacraError, match="real images must be uint8"):
        intensity_distance(np.zeros((2, 1, 4, 4)), draw(2, 0, (1, 4, 4)))
    with pytest.raises(SimulacraError, match=r"\(1, 8, 8\), generated ones of \(1, 4, 4\)"):
        spectral_distance(draw(2, 0), draw(2, 0, (1, 4, 4)))
