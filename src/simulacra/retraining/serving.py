"""What MLflow serves: a registered model that answers requests with images or with texts.

MLflow copies this one file beside the weights and runs it wherever it loads them ("models from code"). What it imports
of Simulacra is not copied: the weights are of use only to the families' code, and a second copy of the package, put
before the installed one, would answer by other code than the one that is looked at. So a model is served in an
environment in which Simulacra is installed, by `--env-manager local`.
"""

import base64
import io
import json
import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, TypeVar

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelConfig
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from simulacra.errors import SimulacraError

if TYPE_CHECKING:
    import numpy as np
    from mlflow.pyfunc.scoring_server import InvocationsResponse
    from numpy.typing import NDArray

    from simulacra.data.image_set import ImageSet
    from simulacra.models.base import Condition, ImageModel
    from simulacra.models.language import LanguageModel

MOST = 64
"""Images, or texts, of one call, all its requests together."""

MOST_TOKENS = 1024
"""Tokens that are drawn for one text."""

LONGEST_PROMPT = 4096
"""Characters of a prompt."""

LARGEST_BODY = 2**20
"""Bytes of a call."""

SERVER = "__pyfunc_model_path__"
"""Environment variable by which `mlflow models serve` tells its server process which model it serves."""

N = Field(ge=1, le=MOST, description="how many")
SEED = Field(ge=0, lt=2**32, description="the same seed gives the same bytes")


class ImageRequest(BaseModel):
    """Images that are asked for: of classes, of a prompt, or as frequent as in the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = N
    seed: int = SEED
    classes: str | None = Field(None, max_length=LONGEST_PROMPT, description="names or indices, in turns: '7 3 1'")
    prompt: str | None = Field(None, min_length=1, max_length=LONGEST_PROMPT, description="a caption, in its place")

    @field_validator("classes", mode="before")
    @classmethod
    def _index(cls, classes: Any) -> Any:
        """Take an index as a number too."""
        return str(classes) if isinstance(classes, int) and not isinstance(classes, bool) else classes

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if self.prompt is not None and self.classes is not None:
            raise ValueError("classes and prompt cannot both be asked for; leave one of them out")
        return self


class TextRequest(BaseModel):
    """Texts that are asked for, which all begin with the prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = N
    seed: int = SEED
    tokens: int = Field(ge=1, le=MOST_TOKENS, description="most tokens that are drawn for each")
    prompt: str | None = Field(None, max_length=LONGEST_PROMPT, description="what all begin with")


class Picture(BaseModel):
    """One image as PNG in base64, with the name of its class where it has one."""

    png: str
    class_name: str | None = None


class ImageAnswer(BaseModel):
    """What one request for images is answered, and which model drew them."""

    family: str
    model_sha256: str
    seed: int
    images: list[Picture]


class TextAnswer(BaseModel):
    """What one request for texts is answered, and which model wrote them."""

    family: str
    model_sha256: str
    seed: int
    texts: list[str]


R = TypeVar("R", ImageRequest, TextRequest)


class _Server(PythonModel):
    """What servers of both kinds share: the model, which one request at a time is drawn from."""

    request: type[BaseModel]

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights; in a server's process, refuse bad calls from now on."""
        from simulacra.models import load_model

        self.model: Any = load_model(Path(context.artifacts["model"]))
        self.about = {"family": self.model.name, "model_sha256": self.model.fingerprint()}
        # Two requests at once would share the cores, and either would be answered later than one after the other.
        self.turn = Lock()
        if SERVER in os.environ:
            guard(self.request)


class ImageServer(_Server):
    """Serves a family of images."""

    request = ImageRequest

    def predict(self, model_input: list[ImageRequest]) -> list[ImageAnswer]:  # type: ignore[override]
        """Return the images of each request.

        Raises:
            MlflowException: for what the family cannot be asked for; a server answers 400.
        """
        return [self._answer(request) for request in _bounded(model_input)]

    def _answer(self, request: ImageRequest) -> ImageAnswer:
        with self.turn:
            drawn = _said(lambda: draw(self.model, request))
        names = [None] * len(drawn) if drawn.labels is None else [drawn.class_names[label] for label in drawn.labels]
        pictures = [Picture(png=_png(image), class_name=name) for image, name in zip(drawn.images, names, strict=True)]
        return ImageAnswer(**self.about, seed=request.seed, images=pictures)


class TextServer(_Server):
    """Serves a family of texts."""

    request = TextRequest

    def predict(self, model_input: list[TextRequest]) -> list[TextAnswer]:  # type: ignore[override]
        """Return the texts of each request.

        Raises:
            MlflowException: for a prompt that the tokenizer cannot tell; a server answers 400.
        """
        return [self._answer(request) for request in _bounded(model_input)]

    def _answer(self, request: TextRequest) -> TextAnswer:
        with self.turn:
            texts = _said(lambda: write(self.model, request))
        return TextAnswer(**self.about, seed=request.seed, texts=texts)


def draw(model: "ImageModel", request: ImageRequest) -> "ImageSet":
    """Return the images that a request asks for.

    Raises:
        SimulacraError: for a class or a prompt that the family does not know.
    """
    return model.sample(request.n, condition=_condition(model, request), seed=request.seed)


def write(model: "LanguageModel", request: TextRequest) -> list[str]:
    """Return the texts that a request asks for.

    Raises:
        SimulacraError: for a prompt that the tokenizer cannot tell.
    """
    return model.sample(request.n, prompt=request.prompt or "", tokens=request.tokens, seed=request.seed)


def _condition(model: "ImageModel", request: ImageRequest) -> "Condition":
    import numpy as np

    from simulacra.models.base import Prompt

    if request.prompt is not None:
        return Prompt(request.prompt)
    return None if request.classes is None else np.resize(model.find_classes(request.classes), request.n)


T = TypeVar("T")


def _said(action: Callable[[], T]) -> T:
    """Return what an action returns; what the user can mend is the caller's mistake."""
    try:
        return action()
    except SimulacraError as error:
        raise _refusal(str(error)) from error


def _bounded(requests: list[R]) -> list[R]:
    """Return the requests, which are few enough together."""
    total = sum(request.n for request in requests)
    if not 1 <= total <= MOST:
        raise _refusal(f"inputs ask for {total} in all; ask for 1 to {MOST} a call")
    return requests


def _png(image: "NDArray[np.uint8]") -> str:
    """Return an image (channels, height, width) as PNG in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[:3].transpose(1, 2, 0) if len(image) >= 3 else image[0]).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def parse(body: bytes, request: type[BaseModel]) -> Sequence[BaseModel]:
    r"""Return the requests of a call, `{"inputs": [request, …]}`.

    Args:
        body: JSON.
        request: what each request is to be.

    Raises:
        MlflowException: where it is anything else; says in one line what is wrong. A server answers 400.

    Example:
        >>> parse(b'{"inputs": [{"n": 2, "seed": 0, "classes": 7}]}', ImageRequest)
        [ImageRequest(n=2, seed=0, classes='7', prompt=None)]
        >>> parse(b'{"inputs": [{"n": 65, "seed": 0}]}', ImageRequest)
        Traceback (most recent call last):
        ...
        mlflow.exceptions.MlflowException: inputs[0].n: Input should be less than or equal to 64 (got 65)
    """
    if len(body) > LARGEST_BODY:
        raise _refusal(f"the body has {len(body):,} bytes; {LARGEST_BODY:,} are the most")
    try:
        told = json.loads(body)
    except RecursionError as error:
        raise _refusal("the body is nested too deeply") from error
    except ValueError as error:
        raise _refusal(f"the body is no JSON: {error}") from error
    if not isinstance(told, dict) or told.keys() != {"inputs"}:
        asked = ", ".join(request.model_fields)
        raise _refusal(f'the body must be {{"inputs": [request, …]}} and nothing else; a request has {asked}')
    try:
        found: list[Any] = TypeAdapter(list[request]).validate_python(told["inputs"], strict=True)  # type: ignore[valid-type]
    except ValidationError as error:
        raise _refusal("; ".join(map(_wrong, error.errors()[:3]))) from error
    return _bounded(found)


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, INVALID_PARAMETER_VALUE)


def _wrong(error: Any) -> str:
    """Return one of pydantic's errors in one line, "inputs[0].n: what is wrong (got value)"."""
    place = "inputs" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] in {"missing", "value_error"}:
        return f"{place}: {said}"
    got = repr(error["input"])
    return f"{place}: {said} (got {got if len(got) <= 60 else got[:59] + '…'})"


def guard(request: type[BaseModel]) -> None:
    """Have MLflow's scoring server look at a call before it makes anything of it.

    MLflow checks requests itself, by the signature. But it fails with 500 where a call has no Content-Type, is nested
    too deeply or holds a number of 5,000 digits, and tells each mistake with the whole schema and all that was sent.
    """
    from mlflow.pyfunc import scoring_server

    answer = getattr(scoring_server.invocations, "__wrapped__", scoring_server.invocations)

    @wraps(answer)
    def guarded(data: bytes, content_type: str | None, model: Any, input_schema: Any) -> "InvocationsResponse":
        if (content_type or "").split(";")[0].strip().lower() != "application/json":
            told = f"send JSON, with the header Content-Type: application/json (got {content_type or 'none'})"
            return scoring_server.InvocationsResponse(told, 415, "text/plain")
        parse(data, request)
        try:
            told = answer(data, content_type.lower() if content_type else "", model, input_schema)
        except MlflowException as error:
            error.message = error.message.rpartition("\nError: ")[2]
            raise
        return told  # type: ignore[no-any-return]

    scoring_server.invocations = guarded


SERVERS: dict[str, type[_Server]] = {"image": ImageServer, "text": TextServer}
"""By the kind of data that the family models."""

KIND: str = ModelConfig(development_config={"kind": "image"}).get("kind")  # type: ignore[no-untyped-call]
"""What the registry says of the model that this file lies beside."""

mlflow.models.set_model(SERVERS[KIND]())
