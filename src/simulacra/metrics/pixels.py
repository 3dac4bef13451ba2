"""Checks of pixels that need no network: their histogram, and how their variance is spread over frequencies."""

import numpy as np
from numpy.typing import NDArray

from simulacra.errors import SimulacraError

FloatArray = NDArray[np.float64]
Images = NDArray[np.uint8]

LEVELS = 256
"""Intensities that a pixel may have."""


def intensity_distance(real: Images, generated: Images) -> float:
    """Return the Wasserstein distance of the histograms of intensities, the mean over channels, in grey levels.

    It lies between 0 and 255, and is by how much a pixel would have to change on average; it tells images that are too
    pale, too dark or clipped from real ones, and nothing of where their pixels lie.

    Args:
        real: (n, channels, height, width), uint8.
        generated: (m, channels, height, width), uint8.

    Raises:
        SimulacraError: where dtype or shapes do not fit.

    Example:
        >>> dark = np.zeros((2, 1, 4, 4), np.uint8)
        >>> intensity_distance(dark, dark + np.uint8(7))
        7.0
    """
    _check(real, generated)
    differences = _cumulated(real) - _cumulated(generated)
    return float(np.abs(differences).sum(axis=1).mean())


def spectral_distance(real: Images, generated: Images) -> float:
    """Return how much the power spectra of both sets differ, the mean over frequencies, in decibels.

    A set's spectrum is the mean power of its images' Fourier transforms, averaged over all directions (Durall et al.
    2020, arXiv:2003.01826, equation 2) and over channels; 10 dB are a factor of 10. Upsampling layers and smooth
    decoders are known to miss the high frequencies, which few other metrics notice. Frequencies at which neither set
    has any power count as equal.

    Args:
        real: (n, channels, height, width), uint8.
        generated: (m, channels, height, width), uint8.

    Raises:
        SimulacraError: where dtype or shapes do not fit.

    Example:
        >>> grey = np.random.default_rng(0).integers(0, 100, (3, 1, 8, 8), np.uint8)
        >>> round(spectral_distance(grey, 2 * grey), 4)
        6.0206
    """
    _check(real, generated)
    first, second = radial_spectrum(real), radial_spectrum(generated)
    # What is left of one grey level in one pixel of one image: below it, power is a matter of rounding.
    least = 1 / max(len(real), len(generated))
    decibels = 10 * np.log10(np.maximum(first, least) / np.maximum(second, least))
    return float(np.abs(decibels).mean())


def radial_spectrum(images: Images) -> FloatArray:
    """Return the mean power of images at each whole frequency from 0 to half the shorter side, in grey levels squared.

    Args:
        images: (n, channels, height, width), uint8.
    """
    _, _, height, width = images.shape
    power = np.zeros((height, width // 2 + 1))
    for image in images:
        power += np.square(np.abs(np.fft.rfft2(image))).mean(axis=0)
    # In waves a shorter side, so that a frequency is the same number along both.
    side = min(height, width)
    rows, columns = np.fft.fftfreq(height)[:, np.newaxis] * side, np.fft.rfftfreq(width) * side
    rings = np.rint(np.hypot(rows, columns)).astype(np.int64)
    # A real transform leaves out the mirror images of all columns but the first and, of an even width, the last.
    doubled = np.full(width // 2 + 1, 2.0)
    doubled[0] = 1.0
    if width % 2 == 0:
        doubled[-1] = 1.0
    weights = np.broadcast_to(doubled, power.shape)
    sums = np.bincount(rings.ravel(), (weights * power).ravel()) / np.bincount(rings.ravel(), weights.ravel())
    spectrum: FloatArray = sums[: side // 2 + 1] / len(images)
    return spectrum


def _cumulated(images: Images) -> FloatArray:
    """Return the share of pixels at or below each intensity, (channels, 256)."""
    counts = [np.bincount(channel.ravel(), minlength=LEVELS) for channel in np.moveaxis(images, 1, 0)]
    shares: FloatArray = np.cumsum(counts, axis=1) / counts[0].sum()
    return shares


def _check(real: Images, generated: Images) -> None:
    """Refuse what are no images, or images of two shapes."""
    for name, images in (("real", real), ("generated", generated)):
        if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
            raise SimulacraError(
                f"{name} images must be uint8 of shape (n, channels, height, width), "
                f"got {images.dtype} of shape {images.shape}"
            )
    if real.shape[1:] != generated.shape[1:]:
        raise SimulacraError(f"real images are of shape {real.shape[1:]}, generated ones of {generated.shape[1:]}")
