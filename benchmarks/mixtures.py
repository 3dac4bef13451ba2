"""Likelihood against looks: mixtures of factor analysers by number of components, and what else was tried.

    python benchmarks/mixtures.py                 # the embedded digits, about three minutes
    python benchmarks/mixtures.py --fashion PATH  # time and memory of the defaults on Fashion-MNIST's IDX files

Bits per dimension, and how often Bayes' rule finds the class, are of the validation split; samples are compared with it
by a classifier trained on the training split.
"""

import argparse
import resource
import time
from typing import Any

import numpy as np

from simulacra.augmentation.classifiers import fit_classifier
from simulacra.augmentation.config import ClassifierConfig
from simulacra.data.config import FashionMnistSource, MnistSource, SplitConfig
from simulacra.data.images import load_images
from simulacra.data.split import Split, stratified_split
from simulacra.metrics.features import NetworkExtractor
from simulacra.metrics.judge import CLASSES, Judge
from simulacra.models import family_class
from simulacra.training.config import TrainingConfig

CANDIDATES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gmm", {}),
    *(("gmm", {"components": (k,), "n_factors": q}) for k in (1, 4, 16, 32) for q in (2, 4, 8)),
    ("gmm", {"prior_rows": 0.0}),
    ("gmm", {"observation_noise": True}),
    ("gmm", {"components": (1, 2, 4, 8), "criterion": "bic"}),
    ("gmm", {"components": (1, 2, 4, 8), "criterion": "aic"}),
    ("gmm", {"components": (1, 2, 4, 8), "criterion": "bic", "space": "pca", "covariance": "full"}),
    ("gmm", {"components": (1,), "covariance": "full", "reg_covar": 1e-3}),
    *(("naive_bayes", {"alpha": alpha}) for alpha in (1.0, 0.1, 0.05, 0.01)),
    *(("naive_bayes", {"features": features}) for features in ("bernoulli", "gaussian")),
)


def measure(judge: Judge, split: Split, family: str, options: dict[str, Any]) -> str:
    """Fit and judge one candidate; return its line of the table."""
    cls = family_class(family)
    model = cls(cls.Config.model_validate(options))
    began = time.perf_counter()
    model.fit(split.train, training=TrainingConfig())
    seconds = time.perf_counter() - began
    record = judge.family(model, model.sample(judge.n, seed=0), [0], ema=None)["metrics"]
    keys = [key for key in record if key.startswith("bits_per_dim")] + ["fd_classifier", "class_accuracy"]
    figures = " | ".join(f"{record[key]['value']:.3f}" for key in [*keys, "bayes_accuracy"])
    return f"| `{family}` {options or 'default'} | {figures} | {seconds:.1f} |"


def digits() -> None:
    """Print a table of all candidates on the embedded digits."""
    split = stratified_split(load_images(MnistSource())[0], SplitConfig())
    config = ClassifierConfig(training=TrainingConfig(steps=800, warmup_steps=40, learning_rate=0.003))
    classifier, _ = fit_classifier(split.train, config, seed=0)
    extractor = NetworkExtractor(classifier.network, name=CLASSES, channels=1)
    judge = Judge([extractor], split.test, split.validation, n_generated=1000, neighbours=5)
    print("| family | bits/dim | FD | class asked for | Bayes accuracy | seconds |\n|---|---|---|---|---|---|")
    for family, options in CANDIDATES:
        print(measure(judge, split, family, options), flush=True)


def fashion(path: str) -> None:
    """Print seconds, peak memory and held-out bits of both families' defaults on Fashion-MNIST."""
    split = stratified_split(load_images(FashionMnistSource(path=path))[0], SplitConfig())
    for family in ("naive_bayes", "gmm"):
        cls = family_class(family)
        model: Any = cls(cls.Config())
        began = time.perf_counter()
        model.fit(split.train, training=TrainingConfig())
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        nats = model.log_prob(split.validation.images)
        bits = -float(np.mean(nats)) / (np.prod(split.train.shape) * np.log(2))
        print(f"{family}: {len(split.train)} images, {seconds:.0f} s, peak {peak:.0f} MiB, {bits:.3f} bits/dim")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fashion", help="folder of Fashion-MNIST's IDX files")
    chosen = parser.parse_args()
    fashion(chosen.fashion) if chosen.fashion else digits()
