"""Time and memory of the metrics beside their peers', interleaved in one run.

    pip install -c requirements.lock -e ".[dev]" pytorch-fid
    python benchmarks/metrics.py [--only distance few moments kernel manifold] [--rounds 3]

Features are what a ReLU gives of correlated normal numbers, in float32 and 2,048 columns, as Inception's are. Every
contender gets the same arrays; a round times each once, so that a busy minute hits all; ratios are of medians. Memory
is the most that one call adds to a process which holds the features already, each in a process of its own.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 2048
ROWS = {"distance": 50_000, "few": 1_000, "moments": 50_000, "kernel": 10_000, "manifold": 10_000}

Work = Callable[[], Any]


def features(n: int, seed: int) -> np.ndarray:
    """Return (n, 2048) float32: correlated, never negative, and another distribution for every seed."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(WIDTH, WIDTH)) * np.geomspace(1, 0.01, WIDTH)[:, None]
    drawn = generator.normal(0.02 * seed, 1 + 0.05 * seed, (n, WIDTH)).astype(np.float32)
    return np.maximum(drawn @ mixing.astype(np.float32) / 20, 0)


def distances() -> dict[str, Work]:
    """Return the Fréchet distance from moments."""
    import torch
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    from simulacra.metrics.frechet import frechet_distance_from_moments, moments

    both = [moments(features(ROWS["distance"], seed)) for seed in (0, 1)]
    arrays = [array for each in both for array in (each.mean, each.covariance)]
    tensors = [torch.from_numpy(array) for array in arrays]
    named = [{"mu": each.mean, "sigma": each.covariance} for each in both]
    return {
        "ours": lambda: frechet_distance_from_moments(*both),
        "pytorch-fid": lambda: calculate_frechet_distance(*arrays),
        "torchmetrics": lambda: float(_compute_fid(*tensors)),
        "torch-fidelity": lambda: fid_statistics_to_metric(*named, verbose=False)["frechet_inception_distance"],
    }


def few() -> dict[str, Work]:
    """Return the Fréchet distance of fewer rows than columns, from features."""
    import torch
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    from simulacra.metrics.frechet import frechet_distance

    real, generated = (features(ROWS["few"], seed) for seed in (0, 1))

    def by_root() -> float:
        pair = [(each.mean(axis=0), np.cov(each, rowvar=False)) for each in (real, generated)]
        return float(calculate_frechet_distance(*pair[0], *pair[1]))

    def by_fidelity() -> float:
        both = [fid_features_to_statistics(torch.from_numpy(each)) for each in (real, generated)]
        return fid_statistics_to_metric(*both, verbose=False)["frechet_inception_distance"]

    return {"ours": lambda: frechet_distance(real, generated), "pytorch-fid": by_root, "torch-fidelity": by_fidelity}


def moments_of() -> dict[str, Work]:
    """Return mean and covariance; what is printed is the covariance's trace."""
    from simulacra.metrics.frechet import moments

    real = features(ROWS["moments"], 0)
    return {
        "ours": lambda: float(np.trace(moments(real).covariance)),
        "numpy": lambda: float(np.trace(np.cov(real, rowvar=False))) + 0 * float(real.mean(axis=0)[0]),
    }


def kernels() -> dict[str, Work]:
    """Return the kernel distance."""
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    from simulacra.metrics.kernel import kernel_distance

    real, generated = (features(ROWS["kernel"], seed) for seed in (0, 1))
    tensors = [torch.from_numpy(each) for each in (real, generated)]

    def subsets() -> float:
        found = kid_features_to_metric(*tensors, kid_subsets=100, kid_subset_size=1000, verbose=False)
        return found["kernel_inception_distance_mean"]

    return {"ours": lambda: kernel_distance(real, generated), "torch-fidelity, 100 subsets": subsets}


def manifolds() -> dict[str, Work]:
    """Return precision, recall, density and coverage; torch-fidelity has the first two."""
    import torch
    from prdc import compute_prdc
    from torch_fidelity.metric_prc import prc_features_to_metric

    from simulacra.metrics.manifold import precision_recall_density_coverage

    real, generated = (features(ROWS["manifold"], seed) for seed in (0, 1))
    tensors = [torch.from_numpy(each) for each in (generated, real)]
    return {
        "ours": lambda: precision_recall_density_coverage(real, generated, k=5),
        "prdc": lambda: compute_prdc(real, generated, nearest_k=5),
        "torch-fidelity": lambda: prc_features_to_metric(*tensors, prc_neighborhood=5, verbose=False),
    }


CONTESTS = {"distance": distances, "few": few, "moments": moments_of, "kernel": kernels, "manifold": manifolds}


def status(field: str) -> float:
    """Return a line of Linux's account of this process, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def memory(contest: str, name: str) -> None:
    """Print the most that one call adds to what the process holds; a smaller call before it has its parts imported."""
    full = ROWS[contest]
    ROWS[contest] = 1000
    CONTESTS[contest]()[name]()
    ROWS[contest] = full
    work = CONTESTS[contest]()[name]
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = status("VmRSS")
    work()
    print(f"{status('VmHWM') - before:.0f}")


def contest(name: str, *, rounds: int) -> None:
    """Time every contender once a round; print medians, ratios, memory and results."""
    entrants = CONTESTS[name]()
    spent: dict[str, list[float]] = {entrant: [] for entrant in entrants}
    found = {}
    for _ in range(rounds):
        for entrant, work in entrants.items():
            began = time.perf_counter()
            found[entrant] = work()
            spent[entrant].append(time.perf_counter() - began)
    entrants.clear()
    medians = {entrant: statistics.median(times) for entrant, times in spent.items()}
    print(f"\n| {name}, {ROWS[name]:,} rows | seconds | × ours | MiB | result |\n|---|---|---|---|---|")
    for entrant, median in medians.items():
        command = [sys.executable, __file__, "--memory", name, entrant]
        added = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]  # noqa: S603
        print(f"| {entrant} | {median:.2f} | {median / medians['ours']:.2f} | {added} | {found[entrant]} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CONTESTS, default=list(CONTESTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", nargs=2, metavar=("CONTEST", "CONTENDER"))
    options = parser.parse_args()
    if options.memory:
        memory(*options.memory)
    else:
        for each in options.only:
            contest(each, rounds=options.rounds)
