"""The champion behind MLflow's own server, on loopback."""

import base64
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from simulacra.data.fabricate import fabricate_images
from simulacra.data.text_set import texts_of
from simulacra.datasets import ModelDataset
from simulacra.metrics.passport import passport_id
from simulacra.models.gpt import GPT, GPTConfig
from simulacra.models.naive_bayes import NaiveBayes, NaiveBayesConfig
from simulacra.retraining.registry import Registry
from simulacra.retraining.serving import LARGEST_BODY, ImageRequest, TextRequest, parse
from simulacra.tracking.config import TrackingConfig
from simulacra.training.config import TrainingConfig

SRC = Path(__file__).resolve().parents[2] / "src"

Call = Callable[..., tuple[int, Any]]


def register(place: Path, dataset: str, model: Any) -> None:
    ModelDataset(str(place / dataset)).save(model)
    passport = {"seeds": [0]}
    record = {"passport": passport, "passport_id": passport_id(passport), "metrics": {}}
    registry = Registry(TrackingConfig(), place, dataset)
    registry.promote(registry.register(place / dataset, record=record).number)


@pytest.fixture(scope="module")
def images_model() -> NaiveBayes:
    model = NaiveBayes(NaiveBayesConfig())
    data = fabricate_images(n=60, size=8, channels=3, n_classes=3, seed=0)
    model.fit(data, training=TrainingConfig())
    return model


@pytest.fixture(scope="module")
def texts_model() -> GPT:
    model = GPT(GPTConfig(tokenizer="character", context=16, width=16, layers=1, heads=2))
    model.fit(texts_of(["to be or not to be, that is the question"] * 20), training=TrainingConfig(steps=2))
    return model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, images_model: NaiveBayes, texts_model: GPT) -> Path:
    place = tmp_path_factory.mktemp("served")
    register(place, "shapes", images_model)
    register(place, "lines", texts_model)
    return place


@contextmanager
def served(store: Path, dataset: str) -> Iterator[Call]:
    """Serve a champion by the command that the README gives."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mlflow = shutil.which("mlflow", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    command = [mlflow, "models", "serve", "-m", f"models:/simulacra.{dataset}@champion"]
    paths = os.pathsep.join(filter(None, [str(SRC), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [*command, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)],
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db", "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )

    def call(body: Any, content_type: str | None = "application/json", path: str = "invocations") -> tuple[int, Any]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {} if content_type is None else {"Content-Type": content_type}
        connection.request("GET" if data is None else "POST", f"/{path}", data, headers)
        answer = connection.getresponse()
        said = answer.read().decode()
        connection.close()
        return answer.status, json.loads(said) if said.startswith("{") else said

    try:
        for _ in range(300):
            try:
                assert process.poll() is None, process.communicate()[0].decode()[-3000:]
                if call(None, path="ping")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        yield call
    finally:
        os.killpg(process.pid, 15)
        process.communicate(timeout=20)


def pixels(picture: dict[str, Any]) -> np.ndarray:
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["png"]))))
    return np.moveaxis(np.atleast_3d(image), -1, 0)


BAD = {
    "no inputs": {"n": 2, "seed": 0},
    "a prompt beside the inputs": {"inputs": [{"n": 1, "seed": 0}], "prompt": "seven"},
    "params": {"inputs": [{"n": 1, "seed": 0}], "params": {"n": 2}},
    "a table": {"dataframe_split": {"columns": ["n", "seed"], "data": [[1, 0]]}},
    "records": {"dataframe_records": [{"n": 1, "seed": 0}]},
    "a list": [{"n": 1, "seed": 0}],
    "a number": 7,
    "null": {"inputs": None},
    "nothing asked for": {"inputs": []},
    "one request, not a list": {"inputs": {"n": 1, "seed": 0}},
    "no request": {"inputs": ["seven"]},
    "too many": {"inputs": [{"n": 65, "seed": 0}]},
    "too many together": {"inputs": [{"n": 40, "seed": 0}, {"n": 40, "seed": 1}]},
    "none": {"inputs": [{"n": 0, "seed": 0}]},
    "a text as number": {"inputs": [{"n": "2", "seed": 0}]},
    "a fraction": {"inputs": [{"n": 1.5, "seed": 0}]},
    "truth": {"inputs": [{"n": True, "seed": 0}]},
    "no seed": {"inputs": [{"n": 1}]},
    "a negative seed": {"inputs": [{"n": 1, "seed": -1}]},
    "a huge seed": {"inputs": [{"n": 1, "seed": 2**32}]},
    "an unknown key": {"inputs": [{"n": 1, "seed": 0, "class": "disc"}]},
    "an unknown class": {"inputs": [{"n": 1, "seed": 0, "classes": "seven"}]},
    "a class out of range": {"inputs": [{"n": 1, "seed": 0, "classes": 3}]},
    "an empty class": {"inputs": [{"n": 1, "seed": 0, "classes": ""}]},
    "a prompt that the family does not take": {"inputs": [{"n": 1, "seed": 0, "prompt": "a thick disc"}]},
    "class and prompt": {"inputs": [{"n": 1, "seed": 0, "classes": "disc", "prompt": "disc"}]},
    "an endless prompt": {"inputs": [{"n": 1, "seed": 0, "prompt": 5000 * "x"}]},
    "half a character": {"inputs": [{"n": 1, "seed": 0, "classes": "\ud800"}]},
    "no JSON": b"{inputs: [",
    "no UTF-8": b'{"inputs": [{"n": 1, "seed": 0, "classes": "\xff"}]}',
    "nothing": b"",
    "not a number": b'{"inputs": [{"n": NaN, "seed": 0}]}',
    "a number without end": b'{"inputs": [{"n": ' + 5000 * b"9" + b', "seed": 0}]}',
    "too deep": b'{"inputs": ' + 100_000 * b"[" + 100_000 * b"]" + b"}",
    "too large": b'{"inputs": [{"n": 1, "seed": 0, "classes": "' + LARGEST_BODY * b"x" + b'"}]}',
}


def test_a_served_model_of_images_answers_what_it_samples_and_refuses_the_rest(
    store: Path, images_model: NaiveBayes
) -> None:
    with served(store, "shapes") as call:
        for request in (
            {"n": 3, "seed": 7},
            {"n": 4, "seed": 7, "classes": "disc cross"},
            {"n": 2, "seed": 2**32 - 1, "classes": 2},
            {"n": 64, "seed": 0, "classes": None},
        ):
            status, told = call({"inputs": [request]})
            assert status == 200, told
            (answer,) = told["predictions"]
            asked = request.get("classes")
            condition = None if asked is None else np.resize(images_model.find_classes(asked), request["n"])
            expected = images_model.sample(request["n"], condition=condition, seed=request["seed"])
            assert (np.stack([pixels(each) for each in answer["images"]]) == expected.images).all()
            names = [expected.class_names[label] for label in expected.labels]
            assert [each["class_name"] for each in answer["images"]] == names
            assert (answer["family"], answer["model_sha256"]) == ("naive_bayes", images_model.fingerprint())
            assert answer["seed"] == request["seed"]
        status, told = call({"inputs": [{"n": 1, "seed": 1}, {"n": 2, "seed": 2}]})
        assert status == 200 and [len(each["images"]) for each in told["predictions"]] == [1, 2]
        for what, body in BAD.items():
            status, told = call(body)
            assert status == 400, (what, status, told)
            assert told["error_code"] == "INVALID_PARAMETER_VALUE", (what, told)
            message = told["message"]
            assert message and "\n" not in message and len(message) < 300 and "stack_trace" not in told, (what, told)
        for kind in ("text/csv", "application/vnd.apache.parquet", "text/plain", "", None):
            status, told = call(b"n,seed\n1,0\n", kind)
            assert status == 415 and "Content-Type: application/json" in told, (kind, told)
        assert call(None)[0] == 405
        assert call({"inputs": [{"n": 1, "seed": 0}]}, "application/json; charset=utf-8")[0] == 200


def test_a_served_model_of_texts_answers_what_it_samples(store: Path, texts_model: GPT) -> None:
    with served(store, "lines") as call:
        status, told = call({"inputs": [{"n": 3, "seed": 5, "tokens": 12, "prompt": "to be"}]})
        assert status == 200, told
        assert told["predictions"][0]["texts"] == texts_model.sample(3, prompt="to be", tokens=12, seed=5)
        status, told = call({"inputs": [{"n": 1, "seed": 5, "tokens": 4}]})
        assert status == 200 and told["predictions"][0]["texts"] == texts_model.sample(1, tokens=4, seed=5)
        for wrong, said in (
            ({"tokens": 1025}, "less than or equal to 1024"),
            ({"prompt": "ünknown"}, "ü"),
            ({"classes": "seven"}, "inputs[0].classes"),
            ({"prompt": 5}, "valid string"),
        ):
            status, told = call({"inputs": [{"n": 1, "seed": 0, "tokens": 4} | wrong]})
            assert status == 400 and said in told["message"], (wrong, told)


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_a_bad_call_is_refused_in_one_line_or_by_the_model(body: Any, images_model: NaiveBayes) -> None:
    from simulacra.retraining.serving import ImageServer, _Server

    server: _Server = ImageServer()
    server.model, server.about, server.turn = images_model, {"family": "naive_bayes", "model_sha256": ""}, _turn()
    with pytest.raises(MlflowException) as told:
        server.predict(parse(body if isinstance(body, bytes) else json.dumps(body).encode(), ImageRequest))
    assert told.value.get_http_status_code() == 400 and "\n" not in told.value.message


def _turn() -> Any:
    from threading import Lock

    return Lock()


def test_requests_say_what_is_wrong_with_them() -> None:
    def said(request: dict[str, Any], kind: Any = ImageRequest) -> str:
        with pytest.raises(MlflowException) as told:
            parse(json.dumps({"inputs": [request]}).encode(), kind)
        return told.value.message

    assert said({"n": 1}) == "inputs[0].seed: Field required"
    assert said({"n": 1, "seed": 0, "classes": "1", "prompt": "x"}).startswith("inputs[0]: classes and prompt")
    assert said({"n": 1, "seed": 0, "class": "1"}) == "inputs[0].class: Extra inputs are not permitted (got '1')"
    assert "tokens: Field required" in said({"n": 1, "seed": 0}, TextRequest)
