"""Flat maps of codes, and how far to trust them."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulacra.exploration.findings import percent
from simulacra.exploration.space import LatentSpace

if TYPE_CHECKING:
    from pandas import DataFrame

Array = NDArray[np.float64]

PERPLEXITY = 30.0
"""Neighbours that t-SNE looks at, about; fewer where codes are few."""
BEFORE_TSNE = 50
"""Principal components that t-SNE is given, as van der Maaten & Hinton (2008) did."""
NEIGHBOURS = 10
"""Neighbours by which a map is trusted."""
NO_CLASS = -1
"""Label in the map of images that carry no classes."""


def map_codes(space: LatentSpace, seed: int) -> tuple["DataFrame", dict[str, float], str]:
    """Return the map of the held-out codes, how far to trust it, and what is seen on it."""
    import pandas as pd

    held = space.held_out
    (principal, shares), neighbours = principal_map(held.codes, seed), neighbour_map(held.codes, seed)
    trust = {
        "map_trust.pca": map_trust(held.codes, principal),
        "map_trust.tsne": map_trust(held.codes, neighbours),
        "map_variance.pca": float(shares.sum()),
    }
    if held.images.n_classes > 1:
        trust["neighbour_agreement"] = neighbour_agreement(held.codes, held.classes)
    labels = np.full(len(held.codes), NO_CLASS) if held.images.labels is None else held.images.labels
    table = {"row": np.arange(len(held.codes)), "label": labels}
    places = {"pca": principal, "tsne": neighbours}
    table |= {f"{key}_{axis + 1}": place[:, axis].round(4) for key, place in places.items() for axis in (0, 1)}
    return pd.DataFrame(table), trust, _map_caption(space, trust)


def principal_map(codes: Array, seed: int) -> tuple[Array, Array]:
    """Return codes (n, d) on their first two principal components, (n, 2), and the share of the variance on each."""
    from sklearn.decomposition import PCA

    n_components = min(2, *codes.shape)
    pca = PCA(n_components, random_state=seed)
    places, shares = np.zeros((len(codes), 2)), np.zeros(2)
    with np.errstate(invalid="ignore"):  # codes that are all alike have no variance to share out
        places[:, :n_components] = pca.fit_transform(codes)
    shares[:n_components] = np.nan_to_num(pca.explained_variance_ratio_)
    return places, shares


def neighbour_map(codes: Array, seed: int) -> Array:
    """Return a t-SNE of codes (n, d), (n, 2): near codes come near each other, far distances and axes mean nothing.

    References:
        van der Maaten & Hinton (2008), JMLR 9.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(codes) - 1) / 3)
    # Codes that are all alike have no direction to start from.
    start = "pca" if codes.shape[1] > 1 and codes.std() > 0 else "random"
    tsne = TSNE(2, perplexity=perplexity, init=start, random_state=seed)
    # Sums in another order lead to another map; and threads that wait for each other cost more here than they save.
    with threadpool_limits(1):
        if codes.shape[1] > BEFORE_TSNE:
            codes = PCA(min(BEFORE_TSNE, len(codes)), random_state=seed).fit_transform(codes)
        return np.asarray(tsne.fit_transform(codes), np.float64)


def map_trust(codes: Array, places: Array) -> float:
    """Return how far a map's neighbours are neighbours among the codes too: 1 all of them, about 0.5 by chance.

    References:
        Venna & Kaski (2001), ICANN.
    """
    from sklearn.manifold import trustworthiness

    return float(trustworthiness(codes, places, n_neighbors=max(1, min(NEIGHBOURS, len(codes) // 2 - 1))))


def neighbour_agreement(codes: Array, labels: NDArray[np.int64]) -> float:
    """Return the share of codes whose nearest other code is of the same class."""
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=1).fit(codes).kneighbors(return_distance=False)[:, 0]
    return float((labels[nearest] == labels).mean())


def _map_caption(space: LatentSpace, trust: dict[str, float]) -> str:
    """Return what a newcomer sees on the map."""
    agreement = ""
    if "neighbour_agreement" in trust:
        share = np.bincount(space.held_out.classes) / len(space.held_out.codes)
        agreement = (
            f" The nearest neighbour of a code is of the same class for {percent(trust['neighbour_agreement'])} of "
            f"the images, {percent(float((share**2).sum()))} by chance."
        )
    if space.conditional:
        agreement += (
            " This family's decoder is told the class, so codes need not tell it, and classes may well overlap."
        )
    return (
        f"One dot for each of {len(space.held_out.codes):,} held-out images, placed by its code: near dots are images "
        f"alike to the family. Principal components keep {percent(trust['map_variance.pca'])} of the codes' variance; "
        f"t-SNE keeps neighbours together, and its axes and far distances mean nothing. Trustworthiness, 1 at best and "
        f"0.5 by chance: {trust['map_trust.pca']:.2f} and {trust['map_trust.tsne']:.2f}.{agreement}"
    )
