"""Good and bad requests to a served champion: what is answered, and how fast.

    python benchmarks/serving.py [--good 200] [--bad 50] [--port 5099] [--model FOLDER]

Registers a model in a store of its own, serves it by `mlflow models serve` on loopback, and sends requests one after
the other: good ones of 1 to 64 images with classes and seeds at random, each of whose pictures is compared with what
`sample` gives, and bad ones of many kinds. Without a folder the model is a naive Bayes of 28×28 pixels, fitted on the
spot to fabricated images.
"""

import argparse
import base64
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests
from PIL import Image

from simulacra.data.fabricate import fabricate_images
from simulacra.datasets import ModelDataset
from simulacra.models import family_class, load_model
from simulacra.retraining.registry import Registry
from simulacra.tracking.config import TrackingConfig
from simulacra.training.config import TrainingConfig

GOOD = {"n": 1, "seed": 0}
BAD: list[tuple[bytes, str | None]] = [
    (body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json")
    for body in (
        {},
        [],
        7,
        b"{",
        b"",
        b"\xff\xfe",
        GOOD,
        {"inputs": []},
        {"inputs": GOOD},
        {"inputs": [7]},
        {"inputs": [GOOD], "params": {"n": 2}},
        {"dataframe_records": [GOOD]},
        {"instances": [GOOD]},
        {"inputs": [GOOD | {"n": 65}]},
        {"inputs": [GOOD | {"n": 0}]},
        {"inputs": [GOOD | {"n": "1"}]},
        {"inputs": [GOOD | {"n": None}]},
        {"inputs": [GOOD | {"seed": -1}]},
        {"inputs": [GOOD | {"seed": 2**32}]},
        {"inputs": [GOOD | {"class": "disc"}]},
        {"inputs": [GOOD | {"classes": "no such class"}]},
        {"inputs": [GOOD | {"classes": 10**6}]},
        {"inputs": [GOOD | {"classes": ["disc"]}]},
        {"inputs": [GOOD | {"prompt": ""}]},
        {"inputs": [GOOD | {"classes": "0", "prompt": "x"}]},
        b'{"inputs": [{"n": NaN, "seed": 0}]}',
        b'{"inputs": [{"n": ' + 5000 * b"9" + b', "seed": 0}]}',
        b'{"inputs": ' + 100_000 * b"[" + 100_000 * b"]" + b"}",
        b" " * (2**20 + 1),
        {"inputs": 65 * [GOOD]},
    )
] + [(json.dumps({"inputs": [GOOD]}).encode(), kind) for kind in ("text/csv", "text/plain", "", None)]


def main() -> None:
    """Print how many requests had which status, and how long the good ones took."""
    arguments = _arguments()
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        model = load_model(arguments.model) if arguments.model else _fit()
        ModelDataset(str(place / "model")).save(model)
        registry = Registry(TrackingConfig(), place, "benchmark")
        record = {"passport": {}, "passport_id": "benchmark", "metrics": {}}
        registry.promote(registry.register(place / "model", record=record).number)
        port = arguments.port
        process = _serve(place, port)
        try:
            _wait(process, port)
            _good(model, port, arguments.good)
            _bad(port, arguments.bad)
        finally:
            os.killpg(process.pid, 15)
            process.wait(20)


def _good(model: Any, port: int, n: int) -> None:
    rng, seconds, statuses, images = np.random.default_rng(0), [], Counter[int](), 0
    for _ in range(n):
        asked = {"n": int(rng.choice((1, 4, 16, 64))), "seed": int(rng.integers(2**32))}
        if model.conditional and rng.random() < 0.5:
            asked["classes"] = int(rng.integers(len(model.class_names)))
        began = time.perf_counter()
        status, body = _send(port, json.dumps({"inputs": [asked]}).encode(), "application/json")
        seconds.append(time.perf_counter() - began)
        statuses[status] += 1
        images += _compare(model, asked, json.loads(body)["predictions"][0]["images"])
    worst = sorted(seconds)[int(0.95 * len(seconds))]
    print(f"good: {dict(statuses)}, {images:,} pictures as `sample` gives them")
    print(f"      median {1000 * statistics.median(seconds):.0f} ms, 95 % within {1000 * worst:.0f} ms")


def _compare(model: Any, asked: dict[str, int], pictures: list[dict[str, str]]) -> int:
    condition = np.resize(model.find_classes(asked["classes"]), asked["n"]) if "classes" in asked else None
    expected = model.sample(asked["n"], condition=condition, seed=asked["seed"]).images
    for picture, image in zip(pictures, expected, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["png"]))))
        assert (np.moveaxis(np.atleast_3d(pixels), -1, 0) == image).all()
    return len(pictures)


def _bad(port: int, n: int) -> None:
    statuses, seconds, lines = Counter[int](), [], 0
    for number in range(n):
        began = time.perf_counter()
        status, body = _send(port, *BAD[number % len(BAD)])
        seconds.append(time.perf_counter() - began)
        statuses[status] += 1
        said = json.loads(body)["message"] if body.startswith(b"{") else body.decode()
        lines += bool(said) and "\n" not in said
    print(f"bad:  {dict(statuses)}, {lines} told in one line, median {1000 * statistics.median(seconds):.1f} ms")


def _send(port: int, body: bytes, kind: str | None) -> tuple[int, bytes]:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = requests.post(f"http://127.0.0.1:{port}/invocations", body, headers=headers, timeout=60)
    return answer.status_code, answer.content


def _serve(place: Path, port: int) -> subprocess.Popen[bytes]:
    program = shutil.which("mlflow", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    command = [str(program), "models", "serve", "-m", "models:/simulacra.benchmark@champion", "--env-manager", "local"]
    uri = f"sqlite:///{place}/mlflow.db"
    return subprocess.Popen(  # noqa: S603
        [*command, "-h", "127.0.0.1", "-p", str(port)],
        env=os.environ | {"MLFLOW_TRACKING_URI": uri},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    began = time.perf_counter()
    while process.poll() is None and time.perf_counter() - began < 120:
        try:
            _send(port, b"", None)
        except OSError:
            time.sleep(0.1)
        else:
            print(f"ready after {time.perf_counter() - began:.1f} s")
            return
    sys.exit("the server did not start")


def _fit() -> Any:
    family = family_class("naive_bayes")
    model = family(family.Config())
    model.fit(fabricate_images(n=600, size=28, channels=1, n_classes=6, seed=0), training=TrainingConfig())
    return model


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--good", type=int, default=200, help="good requests")
    parser.add_argument("--bad", type=int, default=50, help="bad requests")
    parser.add_argument("--port", type=int, default=5099, help="a free one, on loopback")
    parser.add_argument("--model", type=Path, default=None, help="folder of a fitted model of images")
    return parser.parse_args()


if __name__ == "__main__":
    main()
