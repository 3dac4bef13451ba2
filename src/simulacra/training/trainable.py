"""What the training loop asks of a network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from simulacra.training.batches import Batch


class Update(NamedTuple):
    """One optimiser's part of a step: the loss it descends, the parameters that it may move, and how far.

    Args:
        name: prefix of its curves; may be empty.
        loss: of the step's batch.
        parameters: which it moves.
        every: steps from one move to the next. Each step has rows and noise of its own, so two updates that take
            1 and 5 see five batches to one; the second has points on its curves only where it moves.
        rate: its learning rate as a multiple of the training's.
        betas: AdamW's decay of the first and the second moment.
        matrices: those of the parameters that map features to features. Where there are any, weight decay is theirs
            alone, and `optimizer: muon` moves them by Muon.
    """

    name: str
    loss: Callable[[Batch], dict[str, Tensor]]
    parameters: Sequence[nn.Parameter]
    every: int = 1
    rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    matrices: Sequence[nn.Parameter] = ()


class Trainable(nn.Module, ABC):
    """A network that knows its own loss.

    Its random numbers come from `batch.noise`, never from torch's global generator: a step is then the same whether
    or not the training was interrupted, in one process or in several, beside other threads or alone.
    """

    bf16_pays_on_cpu = False
    """Whether `precision: auto` may choose bf16 on a CPU that has the instructions; decided by measurement."""
    channels_last_pays = False
    """Whether `channels_last: auto` means yes: convolutions gain by (n, h, w, c) memory, some normalisations lose."""
    compile_pays = False
    """Whether `compile: auto` may build the loss by torch.compile in a long training; decided by measurement."""
    watched_as_averaged = True
    """Whether looks at samples of the half-trained model are at its averaged weights, as the finished one has them."""

    begun_from = ""
    """Hash of the model whose weights the training began with; empty for random ones."""

    def settings(self) -> dict[str, Any]:
        """Return the JSON-able hyper-parameters that an interrupted training must be gone on with."""
        return {}

    def averages(self, key: str) -> bool:
        """Tell whether `ema_decay` averages this entry of the state; one that is not stays as it is."""
        return True

    def updates(self) -> Sequence[Update]:
        """Return the updates of one step, in order; each has an optimiser of its own, adversaries have two."""
        return (Update("", self.loss, list(self.parameters())),)

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return named scalars; `loss` is minimised and every entry becomes a curve."""
