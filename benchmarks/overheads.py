"""What a run costs beside fitting, sampling and measuring, and what checkpoints cost a training.

    python benchmarks/overheads.py --params vae.training.steps=8000

It starts `kedro run` on the embedded digits with every node forced, takes the seconds of each node from MLflow, and
compares the seconds of those that fit, sample or measure with the wall clock of the whole command. Then it times
checkpoints of the VAE that the run trained against the default cadence.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKING = ("fit", "generate", "train_extractor", "evaluate_baselines", "evaluate", "train_on_real", "try_augmentation")
"""Nodes that fit, sample or measure."""


def run(params: str) -> float:
    """Run the whole graph; return the wall clock's seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "kedro", "run", "--params", ",".join(filter(None, ["force=true", params]))]
    subprocess.run(command, check=True)  # noqa: S603
    return time.perf_counter() - began


def node_seconds() -> dict[str, float]:
    """Return the seconds of every node of the newest run, by `<run>: <node>`."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("simulacra")
    newest = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=50)
    parents = [one for one in newest if "mlflow.parentRunId" not in one.data.tags]
    run_id = parents[0].info.run_id
    runs = [one for one in newest if run_id in (one.info.run_id, one.data.tags.get("mlflow.parentRunId"))]
    return {
        f"{one.info.run_name}: {key.removeprefix('seconds/')}": value
        for one in runs
        for key, value in one.data.metrics.items()
        if key.startswith("seconds/")
    }


def checkpoint_seconds() -> float:
    """Return the median seconds of writing a checkpoint of the default VAE with its optimiser."""
    import torch

    from simulacra.data.config import MnistSource
    from simulacra.data.images import load_images
    from simulacra.models.vae import VAE, VAEConfig
    from simulacra.training import checkpoint
    from simulacra.training.config import TrainingConfig
    from simulacra.training.state import TrainingState

    digits, _ = load_images(MnistSource())
    model = VAE(VAEConfig())
    model.remember(digits)
    state = TrainingState(model.build(), TrainingConfig(ema_decay=0.99))
    for optimizer in state.optimizers.values():
        for parameter in state.module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    seconds = []
    with tempfile.TemporaryDirectory(dir="data") as folder:
        for step in range(20):
            state.step = step
            began = time.perf_counter()
            checkpoint.save(Path(folder), state.checkpoint({}))
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="")
    wall = run(parser.parse_args().params)
    nodes = node_seconds()
    working = sum(value for name, value in nodes.items() if name.split(".")[-1].split(": ")[-1] in WORKING)
    for name, value in sorted(nodes.items(), key=lambda item: -item[1]):
        print(f"{value:8.1f} s  {name}")
    print(
        f"{wall:8.1f} s  whole command, of which {100 * (1 - working / wall):.1f} % beside fit, sample and metric code"
    )
    once, cadence = checkpoint_seconds(), 300
    print(f"a checkpoint takes {1000 * once:.0f} ms: {100 * once / cadence:.3f} % of a training, one every {cadence} s")
