"""What families of text share: tokens, prompts, and one perplexity for all."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simulacra.data.text_set import TextSet
from simulacra.metrics.perplexity import Perplexity, perplexity, together
from simulacra.models.base import GenerativeModel
from simulacra.training import distributed
from simulacra.training.progress import Progress

Tokens = NDArray[np.int64]


class LanguageModel(GenerativeModel[TextSet]):
    """A family of texts, which foretells each token by those before it."""

    begins: tuple[int, ...] = ()
    """What stands before a text's own tokens: the token that begins a document, or none where there is no such."""

    @property
    @abstractmethod
    def context(self) -> int:
        """Most tokens that are looked back on, the foretold one included."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Number of tokens there are."""

    @abstractmethod
    def encode(self, text: str) -> Tokens:
        """Return a text's tokens, (n,)."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens."""

    @abstractmethod
    def log_probs(self, ids: Tokens) -> NDArray[np.float64]:
        """Map windows of tokens (n, t) to the log probability of each but the first, (n, t − 1), in nats."""

    def tokenised(self, data: TextSet, before: Sequence[int]) -> Iterator[Tokens]:
        """Yield the tokens of texts, which may be larger than memory, and show how far that is.

        A document's come after those given; a long one's in pieces, at whose borders no token spans both.
        """
        last = -1
        leads = distributed.here().leads
        shown = Progress(f"{self.name} tokenises", done=0, steps=data.n_pieces, hidden=not leads, losses=False)
        with shown as progress:
            for row, piece in progress.over(data.pieces()):
                if row != last:
                    yield np.array(before, np.int64)
                yield self.encode(piece)
                last = row

    @abstractmethod
    def sample(self, n: int, *, prompt: str = "", tokens: int, stop: Sequence[str] = (), seed: int) -> list[str]:
        """Return n texts that go on from a prompt, which they begin with; the same seed gives the same texts.

        Args:
            n: how many.
            prompt: what all begin with; may be empty.
            tokens: most that are drawn for each.
            stop: a text ends before the first of these that it comes to say.
            seed: decides the draws; of one seed the first of n texts is the only one of 1.

        Raises:
            SimulacraError: for a prompt that the tokenizer cannot tell.
        """

    def perplexity(self, texts: Iterable[str], *, stride: int | None = None, context: int | None = None) -> Perplexity:
        """Return the perplexity of documents, each read from its beginning.

        Args:
            texts: the documents; of one without tokens nothing is measured.
            stride: tokens from one window to the next; by default half the context.
            context: tokens a window; by default all that the model can look back on.

        Raises:
            SimulacraError: as `metrics.perplexity.perplexity` does.
        """
        context = context or self.context
        stride = stride or context // 2
        found = []
        for text in texts:
            ids = np.concatenate([np.array(self.begins, np.int64), self.encode(text)])
            # Without a token that begins a text its own first one is given.
            first = "" if self.begins else self.decode(ids[:1])
            if len(ids) > 1:
                found.append(perplexity(self.log_probs, ids, text, first=first, context=context, stride=stride))
        return together(found)
