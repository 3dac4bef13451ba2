"""Pretrained causal language models of Hugging Face: as they are, or fine-tuned, fully or by LoRA (Hu et al. 2021)."""

import functools
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.data.text_set import TextSet
from simulacra.data.token_set import FileTokens, TokenSet
from simulacra.errors import SimulacraError
from simulacra.models import refuse_missing
from simulacra.models.base import ModelConfig
from simulacra.models.language import LanguageModel, Tokens
from simulacra.models.neural import NeuralModel
from simulacra.training.batches import Batch
from simulacra.training.config import TrainingConfig
from simulacra.training.history import History
from simulacra.training.seeding import seeded
from simulacra.training.trainable import Trainable, Update

logger = logging.getLogger(__name__)

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
AT_ONCE = 16
"""Texts that are drawn side by side."""


class PretrainedConfig(ModelConfig):
    """Which model, and what is made of it."""

    source: str = Field(
        "gpt2",
        min_length=1,
        description="a name on the Hugging Face hub, a folder, or package:<name> for weights that a package brings",
    )
    gguf_file: str = Field("", description="file of the source in the format GGUF; empty: safetensors")
    download: bool = Field(True, description="whether the hub may be asked for what is not on this machine")
    context: int = Field(1024, ge=2, description="tokens of a window of the likelihood")
    training_context: int = Field(256, ge=2, description="tokens of a window of the fine-tuning")
    fine_tune: Literal["none", "lora", "full"] = Field("none", description="which weights the training moves")
    lora_rank: int = Field(8, ge=1, description="rank of the changes to each matrix; for lora")
    lora_alpha: float = Field(16.0, gt=0, description="their size, times 1 / rank; for lora")
    temperature: float = Field(1.0, ge=0, description="below 1: likelier tokens; 0: the likeliest")
    top_k: int = Field(0, ge=0, description="only so many of the likeliest tokens; 0: all")
    top_p: float = Field(1.0, gt=0, le=1, description="only the likeliest tokens that make up this share")
    repetition_penalty: float = Field(1.0, ge=1, description="above 1: what was said is less likely to be said again")

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        try:
            located(self)
        except SimulacraError as error:
            raise ValueError(str(error)) from error
        if self.training_context > self.context:
            raise ValueError(f"training_context {self.training_context} exceeds context {self.context}")
        return self


class PretrainedNetwork(Trainable):
    """A causal language model whose state is what the training may move of it.

    Args:
        model: of `transformers`, its adapters included.
        config: the hyper-parameters.
    """

    bf16_pays_on_cpu = True

    def __init__(self, model: Any, config: PretrainedConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        for name, parameter in model.named_parameters():
            parameter.requires_grad = config.fine_tune == "full" or "lora_" in name

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def train(self, mode: bool = True) -> Self:
        """Say whether training goes on; the model itself stays as it generates.

        Its dropout would draw from torch's global generator, and a training that goes on after an interruption would
        not be the same.
        """
        super().train(mode)
        self.model.eval()
        return self

    def updates(self) -> Sequence[Update]:
        """Return the one update, of the weights that may be moved."""
        return (Update("", self.loss, [*self._moved().values()], betas=(0.9, 0.95)),)

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the weights that may be moved: the others are the source's."""
        return {name: parameter.detach() for name, parameter in self._moved().items()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take back what `state_dict` returned."""
        moved = self._moved()
        if set(moved) != set(state_dict):
            raise SimulacraError(f"the weights kept are not those that fine_tune: {self.config.fine_tune} moves")
        for name, parameter in moved.items():
            parameter.copy_(state_dict[name])

    def _moved(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross-entropy of each next token, in nats."""
        # Logits of a large vocabulary fill the memory; where no gradient needs them they go row by row.
        rows = [batch.x] if torch.is_grad_enabled() else batch.x[:, None]
        losses = [F.cross_entropy(self.model(x[:, :-1]).logits.flatten(0, 1).float(), x[:, 1:].flatten()) for x in rows]
        return {"loss": torch.stack(losses).mean()}


def located(config: PretrainedConfig) -> str:
    """Return where a model lies, as `from_pretrained` takes it.

    Raises:
        SimulacraError: for a folder or package that is not there, and for weights that only pickle could read.
    """
    place = Path(config.source).expanduser()
    if config.source.startswith("package:"):
        name = config.source.removeprefix("package:")
        spec = find_spec(name) if name.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise SimulacraError(f"there is no package {name!r} for pretrained.model.source; install it: pip install")
        place = Path(spec.submodule_search_locations[0])
    elif not place.is_dir():
        if place.is_absolute() or config.source.startswith(("~", ".")):
            raise SimulacraError(f"there is no folder {place} for pretrained.model.source; correct it")
        return config.source
    found = ", ".join(sorted(path.name for path in place.glob("*.gguf"))) or "none"
    if config.gguf_file:
        if not (place / config.gguf_file).is_file():
            raise SimulacraError(f"{place} has no file {config.gguf_file}; of the format GGUF there is {found}")
    elif not list(place.glob("*.safetensors")):
        pickled = next((path.name for pattern in PICKLES for path in place.glob(pattern)), "")
        raise SimulacraError(
            f"{place} has no weights as safetensors"
            + (f", and {pickled} would be read by pickle, which may run any code" if pickled else "")
            + f"; convert them, or set pretrained.model.gguf_file (there is {found})"
        )
    return str(place)


class Pretrained(NeuralModel[TextSet], LanguageModel):
    """A causal language model that others trained.

    Without fine-tuning nothing of it is kept but where it came from, and the hash of its weights; with it, also what
    was moved: the adapters, or all.

    References:
        Radford et al. (2019) for GPT-2, the default; Hu et al. (2021), arXiv:2106.09685, for LoRA.

    Args:
        config: a PretrainedConfig.
    """

    name = "pretrained"
    Config = PretrainedConfig
    config: PretrainedConfig
    network: PretrainedNetwork
    sampling_options: ClassVar[Mapping[str, str]] = {
        key: key for key in ("temperature", "top_k", "top_p", "repetition_penalty")
    }
    tokenizer: Any
    source_sha256: str

    @property
    def context(self) -> int:
        """Most tokens of a window."""
        return self.config.context

    @property
    def vocabulary(self) -> int:
        """Number of tokens there are."""
        return int(self.network.model.config.vocab_size)

    def build(self) -> PretrainedNetwork:
        """Return the model as its source has it, with adapters where they are to be trained.

        Raises:
            SimulacraError: where the source cannot be had, or looks back on less than the context.
        """
        model, self.tokenizer = _loaded(self.config)
        most = getattr(model.config, "max_position_embeddings", self.config.context)
        if most < self.config.context:
            raise SimulacraError(
                f"{self.config.source} looks back on {most} tokens, and pretrained.model.context is "
                f"{self.config.context}: set it to {most} or less"
            )
        self.source_sha256 = _sha256(model)
        if self.config.fine_tune == "lora":
            from peft import LoraConfig, inject_adapter_in_model
            from transformers.pytorch_utils import Conv1D

            # GPT-2's matrices lie the other way round.
            turned = any(isinstance(layer, Conv1D) for layer in model.modules())
            adapters = LoraConfig(
                target_modules="all-linear",
                r=self.config.lora_rank,
                lora_alpha=self.config.lora_alpha,  # type: ignore[arg-type]  # any number will do
                fan_in_fan_out=turned,
            )
            model = inject_adapter_in_model(adapters, model)
        return PretrainedNetwork(model.eval(), self.config)

    def restore(self, tensors: dict[str, NDArray[Any]]) -> None:
        """Load the source, and what was moved of it.

        Raises:
            SimulacraError: as `build` does, and where the source has other weights now than when it was fitted.
        """
        fitted = self.source_sha256
        super().restore(tensors)
        if self.source_sha256 != fitted:
            raise SimulacraError(
                f"{self.config.source} has other weights than when it was fitted; run `kedro run --pipeline train`"
            )

    def facts(self) -> dict[str, Any]:
        """Return hyper-parameters, and the hash of the source's weights."""
        return super().facts() | {"source_sha256": self.source_sha256}

    def recall(self, facts: Mapping[str, Any]) -> None:
        """Take back what `facts` returned."""
        super().recall(facts)
        self.source_sha256 = facts["source_sha256"]

    def fingerprint(self) -> str:
        """Return the sha256 of all weights, the source's included, hexadecimal."""
        return hashlib.sha256((self.source_sha256 + super().fingerprint()).encode()).hexdigest()

    def learn(self, train: TextSet, training: TrainingConfig, **options: Any) -> History:
        """Fine-tune where that is wanted; else there is nothing to learn."""
        return History() if self.config.fine_tune == "none" else super().learn(train, training, **options)

    def examples(self, data: TextSet) -> TokenSet:
        """Return the texts' tokens, in a file, each document's after the one that ends it, if any."""
        end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        return TokenSet(FileTokens(self.tokenised(data, end), self.vocabulary), self.config.training_context)

    def encode(self, text: str) -> Tokens:
        """Return a text's tokens, (n,), without any that marks its beginning or end."""
        found = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return np.array(found, np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens."""
        return str(self.tokenizer.decode([int(each) for each in ids], clean_up_tokenization_spaces=False))

    @torch.inference_mode()
    def log_probs(self, ids: Tokens) -> NDArray[np.float64]:
        """Map windows of tokens (n, t) to the log probability of each but the first, (n, t − 1), in nats."""
        found = []
        for row in torch.from_numpy(ids)[:, None]:  # logits of a large vocabulary fill the memory
            logits = self.network.model(row[:, :-1]).logits.float()
            found.append(logits.log_softmax(-1).gather(2, row[:, 1:, None])[..., 0].double().numpy())
        return np.concatenate(found)

    def sample(self, n: int, *, prompt: str = "", tokens: int, stop: Sequence[str] = (), seed: int) -> list[str]:
        """Return n texts that go on from a prompt; see `LanguageModel.sample`.

        All that are drawn side by side follow from the seed together: of another n the last ones may differ.
        """
        from transformers import pipeline

        begin = prompt or self.tokenizer.eos_token or self.tokenizer.bos_token or " "
        length = len(self.encode(begin)) + tokens
        most = getattr(self.network.model.config, "max_position_embeddings", length)
        if length > most:
            raise SimulacraError(
                f"{self.config.source} looks back on {most} tokens, and prompt and new tokens would be {length}: ask "
                "for fewer, or shorten the prompt"
            )
        options: dict[str, Any] = {key: getattr(self.config, key) for key in self.sampling_options}
        options |= {"do_sample": True, "max_new_tokens": tokens, "pad_token_id": self.tokenizer.eos_token_id}
        different = n
        if not self.config.temperature:
            different = min(n, 1)
            options |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        says = pipeline("text-generation", model=self.network.model, tokenizer=self.tokenizer)
        texts: list[str] = []
        with seeded(seed):
            for start in range(0, different, AT_ONCE):
                options["num_return_sequences"] = min(AT_ONCE, different - start)
                drawn = says(begin, return_full_text=False, **options)
                texts += [prompt + _until(each["generated_text"], stop) for each in drawn]
        return texts if len(texts) == n else texts * n

    def n_parameters(self) -> int:
        """Count all numbers of the model, learnt here or elsewhere."""
        return sum(parameter.numel() for parameter in self.network.model.parameters())


def _until(text: str, stop: Sequence[str]) -> str:
    """Return what was said before the first of these."""
    return text[: min((place for each in stop if (place := text.find(each)) >= 0), default=len(text))]


def _loaded(config: PretrainedConfig) -> tuple[Any, Any]:
    """Return model and tokenizer, in fp32; from this machine, and only what is not on it from the hub.

    Raises:
        SimulacraError: where the extra is missing, and where the source cannot be had.
    """
    refuse_missing("pretrained")
    place = located(config)
    # Its own bars and hints would stand between those of the run.
    from transformers.utils import logging as library

    library.set_verbosity_error()  # type: ignore[no-untyped-call]
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return _read(place, config.gguf_file, local=True)
    except OSError as error:
        if Path(place).is_dir():
            raise _unusable(config, error, "give another folder as pretrained.model.source") from error
        if not config.download:
            remedy = "set pretrained.model.download=true, or give a folder as pretrained.model.source"
            raise _unusable(config, error, remedy) from error
    except (ValueError, ImportError) as error:
        raise _unusable(config, error, "give another model as pretrained.model.source") from error
    try:
        logger.info("%s is not on this machine: fetching %s from the Hugging Face hub", place, _size(place))
        library.enable_progress_bar()  # type: ignore[no-untyped-call]
        return _read(place, config.gguf_file, local=False)
    except Exception as error:  # what the network does comes as errors without a common class
        remedy = "check name and network, or give a folder with its safetensors as pretrained.model.source"
        raise _unusable(config, error, remedy) from error


def _read(place: str, gguf_file: str, *, local: bool) -> tuple[Any, Any]:
    """Return model and tokenizer, and never by pickle."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if gguf_file:
        file = Path(place) / gguf_file
        place = _converted(place, gguf_file, file.stat().st_mtime_ns if file.is_file() else 0, local=local).name
    tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=local)
    model = AutoModelForCausalLM.from_pretrained(
        place, dtype=torch.float32, use_safetensors=True, local_files_only=local
    )
    return model, tokenizer


@functools.cache
def _converted(place: str, gguf_file: str, changed: int, *, local: bool) -> "TemporaryDirectory[str]":
    """Return a folder with what a GGUF holds as safetensors, which lasts as long as the process.

    Every stage loads the model, and to convert it takes much longer than to read it.

    Args:
        place: folder, or name on the hub.
        gguf_file: in it.
        changed: when the file was; another one is converted anew.
        local: whether the hub must not be asked.
    """
    from safetensors.torch import save_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = TemporaryDirectory(prefix="simulacra-gguf-")
    where: dict[str, Any] = {"gguf_file": gguf_file, "local_files_only": local}
    AutoTokenizer.from_pretrained(place, **where).save_pretrained(folder.name)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **where)
    # The library would not save what it read from a GGUF, though nothing of it is quantised any more.
    model.config.save_pretrained(folder.name)
    save_model(model, str(Path(folder.name) / "model.safetensors"), metadata={"format": "pt"})
    return folder


def _unusable(config: PretrainedConfig, error: Exception, remedy: str) -> SimulacraError:
    reason = " ".join(str(error).split())[:200]
    return SimulacraError(f"the pretrained model {config.source} cannot be had: {remedy} (the library said: {reason})")


def _size(name: str) -> str:
    """Return in words how large a download is.

    Raises:
        OSError: where the hub cannot be reached, or knows no such model.
    """
    from huggingface_hub import HfApi

    files = HfApi().model_info(name, files_metadata=True).siblings or []
    fetched = [each for each in files if each.rfilename.endswith((".safetensors", ".json", ".txt", ".model"))]
    return f"{sum(each.size or 0 for each in fetched) / 2**20:,.0f} MiB"


def _sha256(model: nn.Module) -> str:
    """Return the sha256 of all weights, hexadecimal."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().data)
    return digest.hexdigest()
