"""Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167), the same however many processes share a batch."""

import torch
from torch import Tensor, distributed, nn


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of (n, channels) or (n, channels, h, w) over the whole batch, whoever holds its rows.

    Torch's own takes the statistics of each process's share, so that two processes would learn something other than
    one; its synchronised one needs GPUs.

    Example:
        >>> BatchNorm(3)(torch.randn(8, 3, 4, 4)).std(dim=(0, 2, 3)).round(decimals=1).tolist()
        [1.0, 1.0, 1.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x; in training by the batch's mean and variance, which the running ones follow."""
        shared = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        return self._shared(x) if shared and self.training else super().forward(x)

    def _shared(self, x: Tensor) -> Tensor:
        # All processes have as many rows, so that the mean of their means is that of the batch.
        axes = [axis for axis in range(x.ndim) if axis != 1]
        columns = (1, -1, *[1] * (x.ndim - 2))
        wide = x.float()
        mean = averaged(wide.mean(axes))
        centred = wide - mean.view(columns)
        variance = averaged(centred.square().mean(axes))
        self._follow(mean, variance, count=wide[:, 0].numel() * distributed.get_world_size())
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(columns) + self.bias.view(columns)).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, *, count: int) -> None:
        """Move the running statistics; the running variance is the unbiased one, as torch's is."""
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        for running, now in ((self.running_mean, mean), (self.running_var, variance * (count / (count - 1)))):
            running.lerp_(now, self.momentum)  # type: ignore[union-attr, arg-type]

    def _check_input_dim(self, input: Tensor) -> None:
        """Take any number of dimensions, as torch's own do each for their own."""


def averaged(local: Tensor) -> Tensor:
    """Return the mean over all processes of each one's tensor, through which gradients flow back to all of them."""
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(local) / distributed.get_world_size()  # type: ignore[no-untyped-call, no-any-return]
