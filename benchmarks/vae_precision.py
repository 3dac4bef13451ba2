"""Does the VAE lose by bf16? Train it in both precisions and compare held-out ELBO and time, seed by seed.

Run from the project's root, on an otherwise quiet machine: `python benchmarks/vae_precision.py [steps]`.
"""

import sys
import time

import numpy as np
import torch
import yaml

from simulacra.data.config import MnistSource, SplitConfig
from simulacra.data.images import load_images
from simulacra.data.split import stratified_split
from simulacra.experiments import project_root
from simulacra.models.vae import VAE, VAEConfig
from simulacra.training.config import TrainingConfig

SEEDS = (0, 1, 2)


def main() -> None:
    """Print one line a fit and the two means."""
    blocks = yaml.safe_load((project_root() / "conf/base/parameters/vae.yml").read_text())["vae"]
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else blocks["training"]["steps"]
    split = stratified_split(load_images(MnistSource())[0], SplitConfig())
    elbo: dict[str, list[float]] = {"fp32": [], "bf16": []}
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for seed in SEEDS:
        for precision, values in elbo.items():  # interleaved, so that a busy minute hits both
            budget = blocks["training"] | {"steps": steps, "learning_rate": 0.002, "precision": precision}
            model = VAE(VAEConfig.model_validate(blocks["model"]))
            began = time.perf_counter()
            model.fit(split.train, training=TrainingConfig.model_validate(budget), seed=seed)
            seconds[precision].append(time.perf_counter() - began)
            values.append(float(-model.elbo(split.test.images).mean() / np.log(2) / 784))
            print(
                f"seed {seed} {precision}: {values[-1]:.4f} bits/dim, {seconds[precision][-1]:.0f} s",
                flush=True,
            )
    for precision, values in elbo.items():
        spread, median = np.std(values, ddof=1), np.median(seconds[precision])
        print(f"{precision}: {np.mean(values):.4f} ± {spread:.4f} bits/dim (ELBO, test split), median {median:.0f} s")
    tiles = torch.cpu._is_amx_tile_supported()
    ratio = np.median(np.array(seconds["fp32"]) / np.array(seconds["bf16"]))
    print(f"fp32 time / bf16 time: {ratio:.2f}; matrix tiles on this processor: {tiles}")


if __name__ == "__main__":
    main()
