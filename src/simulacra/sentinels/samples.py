"""What samples of a half-trained model show without a trained judge: whether they repeat themselves or leave kinds out.

Distances are taken between principal components of pixels, kinds are the data's classes, or clusters where there are
none or hardly more than one; coarse, but the same for every family, at any step, in a hundredth of a second.
"""

import numpy as np
from numpy.typing import NDArray

from simulacra.data.image_set import ImageSet
from simulacra.metrics.manifold import precision_recall_density_coverage

REFERENCES = 2000
"""Training images that are looked at, at most."""
COMPONENTS = 32
CLUSTERS = 10
FEWEST_KINDS = 1.5
"""Classes in effect below which their frequencies say nothing: one class, or one beside a rare one."""
NEIGHBOURS = 5
NEAR = 0.25
"""Share of the usual distance within which two samples count as copies; blurred samples lie within a half of it."""
DRAWS = 50
"""Sets of real images from which it is known how many kinds so many images hold."""


class SampleWatch:
    """Measures sets of samples beside the data that a model is fitted to.

    Args:
        data: the training images.
        n: samples a look; as many real images are measured for comparison.
        seed: chooses the real images.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> data = fabricate_images(n=200, size=8, channels=1, n_classes=3, seed=0)
        >>> watch = SampleWatch(data, n=60)
        >>> watch.look(data.take([7] * 60))["near_duplicates"]
        1.0
    """

    def __init__(self, data: ImageSet, *, n: int, seed: int = 0) -> None:
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA
        from sklearn.neighbors import KNeighborsClassifier

        self.n = min(n, len(data) // 2)
        chosen = data.take(np.random.default_rng(seed).permutation(len(data))[:REFERENCES])
        pixels = _flat(chosen.images)
        self.projection = PCA(min(COMPONENTS, *pixels.shape), random_state=0).fit(pixels)
        codes = self._codes(chosen.images)
        kinds = chosen.labels
        if kinds is None or _effective(kinds) < FEWEST_KINDS:
            kinds = KMeans(min(CLUSTERS, len(codes)), random_state=0).fit_predict(codes)
        self.kinds = KNeighborsClassifier(min(NEIGHBOURS, len(codes))).fit(codes, kinds)
        self.real, others = codes[: self.n], codes[self.n : 2 * self.n]
        self.usual_distance = float(np.median(_nearest(self.real)))
        self.usual_coverage = max(self._coverage(others), 1 / self.n)
        # Few images hold fewer kinds than many do: they are compared with as few.
        rng = np.random.default_rng(seed)
        self.usual_kinds = float(np.mean([_effective(rng.choice(kinds, self.n)) for _ in range(DRAWS)]))

    def look(self, samples: ImageSet) -> dict[str, float]:
        """Return how samples stand to as many real images; every number is near 0 or 1 for real ones.

        Returns:
            near_duplicates: share of samples whose nearest neighbour among the samples is nearer than `NEAR` times what
                is usual among real images; about 0 for those, 1 where all are one image.
            relative_coverage: share of real images with a sample in their neighbourhood (Naeem et al. 2020), over the
                same for other real images.
            relative_kinds: kinds in effect among the samples beside the first, over the same of real images; 0 where
                all are of one kind. The exponential of the entropy of their frequencies says how many are in effect.
        """
        codes = self._codes(samples.images[: self.n])
        return {
            "near_duplicates": float((_nearest(codes) < NEAR * self.usual_distance).mean()),
            "relative_coverage": self._coverage(codes) / self.usual_coverage,
            "relative_kinds": (_effective(self.kinds.predict(codes)) - 1) / max(self.usual_kinds - 1, 1 / self.n),
        }

    def _codes(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(self.projection.transform(_flat(images)), np.float64)

    def _coverage(self, codes: NDArray[np.float64]) -> float:
        k = min(NEIGHBOURS, len(codes) - 1, self.n - 1)
        return precision_recall_density_coverage(self.real, codes, k=k)["coverage"]


def _flat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return images as vectors of numbers in [0, 1]."""
    return np.divide(images.reshape(len(images), -1), 255, dtype=np.float32)


def _nearest(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each code to the nearest other one, (n,)."""
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=1).fit(codes).kneighbors()
    nearest: NDArray[np.float64] = distances[:, 0]
    return nearest


def _effective(kinds: NDArray[np.int64]) -> float:
    """Return the exponential of the entropy of the kinds' frequencies: how many there are in effect."""
    shares = np.unique(kinds, return_counts=True)[1] / len(kinds)
    return float(np.exp(-(shares * np.log(shares)).sum()))
