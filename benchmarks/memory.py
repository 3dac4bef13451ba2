"""Peak memory of generating, saving, loading and judging many MNIST-sized samples of each family, in a process each.

    python benchmarks/memory.py --n 200000

The judge compares them with as many real images, so that the quadratic metrics (KID, precision, recall, density,
coverage) take minutes at the full number; --judge-n compares fewer.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def peak_mib() -> float:
    """Return the largest memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(family_name: str, n: int, judge_n: int) -> None:
    """Fit a family briefly, generate n samples through the pipeline's own node and judge them."""
    from simulacra.augmentation.classifiers import ImageClassifier
    from simulacra.augmentation.config import ClassifierConfig
    from simulacra.data.config import MnistSource
    from simulacra.data.image_set import ImageSet
    from simulacra.data.images import load_images
    from simulacra.datasets import ImageSetDataset
    from simulacra.metrics.features import NetworkExtractor
    from simulacra.metrics.judge import Judge
    from simulacra.models import family_class
    from simulacra.pipelines.config import GenerationConfig
    from simulacra.pipelines.generate.nodes import generate
    from simulacra.training.config import TrainingConfig

    digits, _ = load_images(MnistSource())
    family = family_class(family_name)
    model = family(family.Config())
    model.fit(digits.take(range(0, len(digits), 5)), training=TrainingConfig(steps=20))
    began = time.perf_counter()
    samples, _, _ = generate(model, GenerationConfig(n=n, n_seeds=1), 0)
    with tempfile.TemporaryDirectory() as folder:
        dataset = ImageSetDataset(filepath=f"{folder}/samples.safetensors")
        dataset.save(samples)
        del samples
        samples = dataset.load()
    print(f"{family_name}: generated {len(samples)}, {time.perf_counter() - began:.0f} s, peak {peak_mib():.0f} MiB")
    rows = np.random.default_rng(0).integers(0, len(digits), judge_n)
    test = ImageSet(digits.images[rows], digits.labels[rows], digits.class_names)
    classifier = ImageClassifier(ClassifierConfig(), 1, digits.class_names)
    extractor = NetworkExtractor(classifier.network, name="classifier", channels=1)
    began = time.perf_counter()
    judge = Judge([extractor], test, test, n_generated=n, neighbours=5)
    judge.family(model, samples, [0], ema=None)
    print(f"{family_name}: judged {judge.n} a side, {time.perf_counter() - began:.0f} s, peak {peak_mib():.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--judge-n", type=int, default=200_000)
    parser.add_argument("--family")
    options = parser.parse_args()
    if options.family:
        measure(options.family, options.n, options.judge_n)
    else:
        from simulacra.models import FAMILIES

        for name in FAMILIES:
            command = [sys.executable, str(Path(__file__)), "--family", name, "--n", str(options.n)]
            subprocess.run([*command, "--judge-n", str(options.judge_n)], check=True)  # noqa: S603
