"""The optimisers of a training."""

from torch.optim import AdamW, Optimizer

from simulacra.errors import SimulacraError
from simulacra.training.config import TrainingConfig
from simulacra.training.muon import Muon
from simulacra.training.trainable import Update


def optimizers_of(update: Update, config: TrainingConfig) -> list[Optimizer]:
    """Return what moves an update's parameters: AdamW (Loshchilov & Hutter 2019), beside it Muon where it is wanted.

    Muon takes the learning rate and the weight decay that AdamW takes.

    Raises:
        SimulacraError: where Muon is wanted and the update names no matrices.
    """
    own = {id(matrix) for matrix in update.matrices}
    rest = [parameter for parameter in update.parameters if id(parameter) not in own]
    muon = config.optimizer == "muon"
    if muon and not own:
        raise SimulacraError("training.optimizer: muon is for families that name their matrices; set it to adamw")
    groups = [{"params": rest, "weight_decay": 0.0 if own else config.weight_decay}]
    if own and not muon:
        groups.append({"params": list(update.matrices), "weight_decay": config.weight_decay})
    adamw = AdamW(groups, config.learning_rate, betas=update.betas, fused=True)
    if not muon:
        return [adamw]
    return [adamw, Muon(update.matrices, config.learning_rate, weight_decay=config.weight_decay)]
