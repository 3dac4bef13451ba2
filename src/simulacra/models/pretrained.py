"""Pretrained causal language models of Hugging Face: as they are, or fine-tuned, fully or by LoRA (Hu et al. 2021)."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.data.text_set import TextSet
from simulacra.data.token_set import TokenSet
from simulacra.errors import SimulacraError
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
EXTRA = 'the family pretrained needs the extra text: run `pip install -c requirements.lock -e ".[text]"`'


class PretrainedConfig(ModelConfig):
    """Which model, and what is made of it."""

    source: str = Field(
        "gpt2",
        min_length=1,
        description="a name on the Hugging Face hub, a folder, or package:<name> for weights that a package brings",
    )
    gguf_file: str = Field("", description="file of the source in the format GGUF; empty: safetensors")
    download: bool = Field(False, description="whether the hub may be asked for what is not on this machine")
    context: int = Field(1024, ge=2, description="tokens that are looked back on, at most")
    fine_tune: Literal["none", "lora", "full"] = Field("none", description="which weights the training moves")
    lora_rank: int = Field(8, ge=1, description="rank of the changes to each matrix; for lora")
    lora_alpha: float = Field(16.0, gt=0, description="their size, times 1 / rank; for lora")
    temperature: float = Field(1.0, ge=0, description="below 1: likelier tokens; 0: the likeliest")
    top_k: int = Field(0, ge=0, description="only so many of the likeliest tokens; 0: all")
    top_p: float = Field(1.0, gt=0, le=1, description="only the likeliest tokens that make up this share")
    repetition_penalty: float = Field(1.0, ge=1, description="above 1: what was said is less likely to be said again")


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

    def updates(self) -> Sequence[Update]:
        """Return the one update, of the weights that may be moved."""
        return (Update("", self.loss, [*self._moved().values()], betas=(0.9, 0.95)),)

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the weights that may be moved: the others are the source's."""
        return {name: parameter.detach() for name, parameter in self._moved().items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """Take back what `state_dict` returned."""
        moved = self._moved()
        if set(moved) != set(state):
            raise SimulacraError(f"the weights kept are not those that fine_tune: {self.config.fine_tune} moves")
        for name, parameter in moved.items():
            parameter.copy_(state[name])

    def _moved(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross-entropy of each next token, in nats."""
        logits = self.model(batch.x[:, :-1]).logits
        return {"loss": F.cross_entropy(logits.flatten(0, 1).float(), batch.x[:, 1:].flatten())}


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
    if config.gguf_file:
        if not (place / config.gguf_file).is_file():
            found = ", ".join(sorted(path.name for path in place.glob("*.gguf"))) or "none"
            raise SimulacraError(f"{place} has no file {config.gguf_file}; of the format GGUF there is {found}")
    elif not list(place.glob("*.safetensors")):
        pickled = next((path.name for pattern in PICKLES for path in place.glob(pattern)), "")
        raise SimulacraError(
            f"{place} has no weights as safetensors"
            + (f", and {pickled} would be read by pickle, which may run any code" if pickled else "")
            + "; convert them, or set pretrained.model.gguf_file"
        )
    return str(place)


class Pretrained(NeuralModel[TextSet], LanguageModel):
    """A causal language model that others trained.

    Without fine-tuning nothing of it is kept but where it came from; with it, what was moved: the adapters, or all.

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

    @property
    def context(self) -> int:
        """Most tokens of a window: what is configured, or what the model can."""
        return min(self.config.context, getattr(self.network.model.config, "max_position_embeddings", 10**9))

    def build(self) -> PretrainedNetwork:
        """Return the model as its source has it, with adapters where they are to be trained.

        Raises:
            SimulacraError: where the extra is missing, and where the source cannot be had.
        """
        model, self.tokenizer = _loaded(self.config)
        if self.config.fine_tune == "lora":
            from peft import LoraConfig, inject_adapter_in_model

            options = {"r": self.config.lora_rank, "lora_alpha": self.config.lora_alpha, "bias": "none"}
            model = inject_adapter_in_model(LoraConfig(target_modules="all-linear", **options), model)
        return PretrainedNetwork(model.eval(), self.config)

    def learn(self, train: TextSet, training: TrainingConfig, **options: Any) -> History:
        """Fine-tune where that is wanted; else there is nothing to learn."""
        return History() if self.config.fine_tune == "none" else super().learn(train, training, **options)

    def examples(self, data: TextSet) -> TokenSet:
        """Return the texts' tokens, with the token between documents where the tokenizer has one."""
        end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        parts, last = [], 0
        for row, piece in data.pieces():
            parts.append(np.array(end if row != last else [], np.uint32))
            parts.append(self.encode(piece).astype(np.uint32))
            last = row
        return TokenSet(np.concatenate(parts), self.context - 1)

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
        for row in torch.from_numpy(ids).split(1):  # a large vocabulary's logits would fill the memory
            logits = self.network.model(row[:, :-1]).logits.float()
            found.append(logits.log_softmax(-1).gather(2, row[:, 1:, None])[..., 0].double().numpy())
        return np.concatenate(found)

    def sample(self, n: int, *, prompt: str = "", tokens: int, stop: Sequence[str] = (), seed: int) -> list[str]:
        """Return n texts that go on from a prompt; see `LanguageModel.sample`.

        All n follow from the seed together: another n gives others.
        """
        from transformers import pipeline

        options: dict[str, Any] = {key: getattr(self.config, key) for key in self.sampling_options}
        options |= {"do_sample": options["temperature"] > 0, "max_new_tokens": tokens, "num_return_sequences": n}
        if not options["do_sample"]:
            options |= {"temperature": None, "top_p": None, "top_k": None, "num_return_sequences": 1}
        says = pipeline("text-generation", model=self.network.model, tokenizer=self.tokenizer)
        begin = prompt or self.tokenizer.bos_token or self.tokenizer.eos_token or " "
        with seeded(seed):
            drawn = says(begin, return_full_text=False, pad_token_id=self.tokenizer.eos_token_id, **options)
        texts = [prompt + _until(each["generated_text"], stop) for each in drawn]
        return texts * n if len(texts) < n else texts

    def n_parameters(self) -> int:
        """Count all numbers of the model, learnt here or elsewhere."""
        return sum(parameter.numel() for parameter in self.network.model.parameters())


def _until(text: str, stop: Sequence[str]) -> str:
    """Return what was said before the first of these."""
    return text[: min((place for each in stop if (place := text.find(each)) >= 0), default=len(text))]


def _loaded(config: PretrainedConfig) -> tuple[Any, Any]:
    """Return model and tokenizer, in fp32.

    Raises:
        SimulacraError: where the extra is missing, and where the source cannot be had.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise SimulacraError(EXTRA) from error
    place = located(config)
    options: dict[str, Any] = {"local_files_only": not config.download}
    if config.gguf_file:
        options["gguf_file"] = config.gguf_file
    if config.download and not Path(place).is_dir():
        logger.info("%s is asked for at the Hugging Face hub: %s", place, _size(place))
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        weights = {} if config.gguf_file else {"use_safetensors": True}
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **weights, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        remedy = "set pretrained.model.download=true to fetch it, or give a folder as pretrained.model.source"
        if config.download or Path(place).is_dir():
            remedy = "check the name and the network, or give a folder of safetensors as pretrained.model.source"
        raise SimulacraError(f"the model {config.source} cannot be had ({reason}); {remedy}") from error
    return model, tokenizer


def _size(name: str) -> str:
    """Return in words how large a download would be."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().model_info(name, files_metadata=True).siblings or []
    except OSError:
        return "its size is not known"
    weights = [each for each in files if each.rfilename.endswith((".safetensors", ".json", ".txt", ".model"))]
    return f"{sum(each.size or 0 for each in weights) / 2**20:,.0f} MiB, unless they are on this machine already"
