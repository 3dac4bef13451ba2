"""GPT: a decoder-only transformer over tokens, Radford et al. (2019)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from simulacra.data.text_set import TextSet
from simulacra.data.token_set import FileTokens, TokenSet
from simulacra.models.base import GenerativeModel, ModelConfig
from simulacra.models.language import LanguageModel, Tokens
from simulacra.models.neural import NeuralModel
from simulacra.nn.transformer import Transformer
from simulacra.text.sampling import Sampling, draw
from simulacra.text.tokenizers import Tokenizer, build
from simulacra.training.batches import Batch
from simulacra.training.trainable import Trainable, Update

AT_ONCE = 64
"""Texts that are drawn side by side."""

JUDGED_AT_ONCE = 8
"""Windows whose logits are in memory together, where no gradient needs them."""

COUNTED = 2**26
"""Bytes in which the bpe counts pairs, spread evenly: more would change little, and words are held in memory."""


class GPTConfig(ModelConfig):
    """Hyper-parameters of the GPT."""

    tokenizer: Literal["character", "byte", "bpe"] = Field("bpe", description="what a token is")
    tokenizer_size: int = Field(2048, ge=2, description="tokens of the bpe, 257 at least")
    context: int = Field(128, ge=2, description="tokens that are looked back on")
    width: int = Field(192, ge=8, description="coordinates of a token")
    layers: int = Field(4, ge=1, description="blocks")
    heads: int = Field(4, ge=1, description="heads of the attention")
    positions: Literal["learned", "rotary"] = Field("rotary", description="how places are told")
    mlp: Literal["gelu", "swiglu"] = Field("swiglu", description="feed-forward layers")
    norm: Literal["layer", "rms"] = Field("layer", description="normalisation")
    qk_norm: bool = Field(True, description="normalise queries and keys")
    bias: bool = Field(False, description="whether linear layers and layer normalisation have one")
    dropout: float = Field(0.0, ge=0, lt=1, description="share left out in training")
    temperature: float = Field(1.0, ge=0, description="below 1: likelier tokens; 0: the likeliest")
    top_k: int = Field(0, ge=0, description="only so many of the likeliest tokens; 0: all")
    top_p: float = Field(1.0, gt=0, le=1, description="only the likeliest tokens that make up this share")
    repetition_penalty: float = Field(1.0, ge=1, description="above 1: what was said is less likely to be said again")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads, {2 * self.heads}")
        return self


class GPTNetwork(Trainable):
    """The transformer, and its loss.

    Args:
        config: the hyper-parameters.
        vocabulary: number of tokens.
    """

    bf16_pays_on_cpu = True
    compile_pays = True

    def __init__(self, config: GPTConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        sizes = {"context", "width", "layers", "heads", "positions", "mlp", "norm", "qk_norm", "bias", "dropout"}
        self.net = Transformer(vocabulary, **config.model_dump(include=sizes))

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return self.config.model_dump(mode="json")

    def updates(self) -> Sequence[Update]:
        """Return the one update; what maps features to features are the blocks' matrices."""
        matrices = [parameter for parameter in self.net.blocks.parameters() if parameter.ndim == 2]
        return (Update("", self.loss, list(self.parameters()), betas=(0.9, 0.99), matrices=matrices),)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross-entropy of each next token, in nats."""
        # Logits of many rows fill the memory; where no gradient needs them, a few rows are enough at once.
        parts = [batch.x] if torch.is_grad_enabled() else torch.split(batch.x, JUDGED_AT_ONCE)
        noise = batch.noise if self.training else None
        sums = []
        for x in parts:
            logits = self.net(x[:, :-1], noise=noise).flatten(0, 1).float()
            sums.append(F.cross_entropy(logits, x[:, 1:].flatten(), reduction="sum"))
        return {"loss": torch.stack(sums).sum() / batch.x[:, 1:].numel()}


class GPT(NeuralModel[TextSet], LanguageModel):
    """A transformer trained from scratch, with a tokenizer of the training texts.

    References:
        Radford et al. (2019), "Language models are unsupervised multitask learners"; Su et al. (2021),
        arXiv:2104.09864, for rotary positions; Shazeer (2020), arXiv:2002.05202, for SwiGLU.

    Args:
        config: a GPTConfig.

    Example:
        >>> from simulacra.data.text_set import texts_of
        >>> from simulacra.training.config import TrainingConfig
        >>> model = GPT(GPTConfig(tokenizer="character", context=8, width=16, layers=1, heads=2))
        >>> history = model.fit(texts_of(["to be or not to be"] * 20), training=TrainingConfig(steps=2))
        >>> len(model.encode("to be")), model.sample(1, prompt="to be", tokens=5, seed=0)[0][:5]
        (5, 'to be')
    """

    name = "gpt"
    Config = GPTConfig
    config: GPTConfig
    network: GPTNetwork
    sampling_options: ClassVar[Mapping[str, str]] = {
        key: key for key in ("temperature", "top_k", "top_p", "repetition_penalty")
    }
    tokenizer: Tokenizer

    @property
    def context(self) -> int:
        """Most tokens of a window: the foretold one is one more than what the network looks back on."""
        return self.config.context + 1

    @property
    def vocabulary(self) -> int:
        """Number of tokens there are."""
        return self.tokenizer.size

    def begin_from(self, former: GenerativeModel[Any]) -> None:
        """Let the next `fit` begin from another model's weights, and with its tokenizer where that knows the texts."""
        if isinstance(former, GPT) and _tokenizing(former.config) == _tokenizing(self.config):
            super().begin_from(former)

    def remember(self, train: TextSet) -> None:
        """Learn the tokenizer."""
        super().remember(train)
        if self.start and (known := Tokenizer.from_json(self.start.meanings["tokenizer"])).knows(train.alphabet):
            self._tell(known)
            return
        pieces = islice((piece for _, piece in train.pieces()), 0, None, 1 + train.n_bytes // COUNTED)
        self._tell(build(self.config.tokenizer, alphabet=train.alphabet, texts=pieces, size=self.config.tokenizer_size))

    def _tell(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.begins = tokenizer, (tokenizer.end,)

    def facts(self) -> dict[str, Any]:
        """Return hyper-parameters and tokenizer."""
        return super().facts() | {"tokenizer": self.tokenizer.to_json()}

    def recall(self, facts: Mapping[str, Any]) -> None:
        """Take back what `facts` returned."""
        super().recall(facts)
        self._tell(Tokenizer.from_json(facts["tokenizer"]))

    def build(self) -> GPTNetwork:
        """Return an untrained network."""
        return GPTNetwork(self.config, self.tokenizer.size)

    def examples(self, data: TextSet) -> TokenSet:
        """Return the texts' tokens, in a file, since they may be larger than memory."""
        return TokenSet(FileTokens(self.tokenised(data, self.begins), self.vocabulary), self.config.context)

    def encode(self, text: str) -> Tokens:
        """Return a text's tokens, (n,)."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens."""
        return self.tokenizer.decode(ids)

    @torch.inference_mode()
    def log_probs(self, ids: Tokens) -> NDArray[np.float64]:
        """Map windows of tokens (n, t) to the log probability of each but the first, (n, t − 1), in nats."""
        x = torch.from_numpy(ids)
        found = self.network.net(x[:, :-1]).log_softmax(-1).gather(2, x[:, 1:, None])[..., 0]
        return np.asarray(found.double())

    @torch.inference_mode()
    def sample(self, n: int, *, prompt: str = "", tokens: int, stop: Sequence[str] = (), seed: int) -> list[str]:
        """Return n texts that go on from a prompt; see `LanguageModel.sample`."""
        begin = np.concatenate([np.array(self.begins, np.int64), self.encode(prompt)])
        options = Sampling(**{key: getattr(self.config, key) for key in self.sampling_options})
        texts = []
        for start in range(0, n, AT_ONCE):
            rows = range(start, min(start + AT_ONCE, n))
            # Each row has numbers of its own, whoever is drawn beside it.
            uniforms = torch.from_numpy(np.stack([np.random.default_rng([seed, row]).random(tokens) for row in rows]))
            prompts = torch.from_numpy(begin).repeat(len(rows), 1)
            drawn = draw(self.network.net, prompts, uniforms, options, stops=self._stopped(len(begin), stop))
            texts += [prompt + self._until(row[len(begin) :].tolist(), stop) for row in drawn]
        return texts

    def _stopped(self, prompted: int, stop: Sequence[str]) -> Callable[[Tensor], bool]:
        """Return what tells that every row has come to its end."""

        def ended(row: list[int]) -> bool:
            return self.tokenizer.end in row or (bool(stop) and any(each in self.decode(row) for each in stop))

        return lambda text: all(ended(row) for row in text[:, prompted:].tolist())

    def _until(self, ids: list[int], stop: Sequence[str]) -> str:
        """Return what was said up to the end of the document, or to one of these."""
        text = self.decode(ids[: ids.index(self.tokenizer.end)] if self.tokenizer.end in ids else ids)
        places = [place for each in stop if (place := text.find(each)) >= 0]
        return text[: min(places, default=len(text))]


def _tokenizing(config: GPTConfig) -> tuple[str, int]:
    return config.tokenizer, config.tokenizer_size if config.tokenizer == "bpe" else 0
