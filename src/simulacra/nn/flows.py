"""Normalizing flows: invertible layers, their composition over scales, and a flow on vectors.

Dinh et al. (2017), arXiv:1605.08803, for squeezing and scales; Kingma & Dhariwal (2018), arXiv:1807.03039, for actnorm
and the invertible 1×1 convolution.
"""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simulacra.nn.coupling import LOG_SCALE_BOUND, Bijection, Couplings, Mlp, bounded


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) in nats, all but the first dimension summed, (n,)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)


class Chain(Bijection):
    """Bijections one after the other.

    Args:
        layers: the bijections in the order from x to z.
    """

    def __init__(self, *layers: Bijection) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Go through all layers and add their log-determinants up."""
        total = x.new_zeros(len(x))
        for layer in self.layers:
            x, log_det = layer(x, context)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Go back through all layers."""
        for layer in reversed(cast("Sequence[Bijection]", self.layers)):
            z = layer.inverse(z, context)
        return z


class ActNorm(Bijection):
    """A scale and a shift a channel, which begin where they standardise the first data they see.

    The beginning is set by `initialise`, before training: the layer then has no state but its parameters.

    Args:
        channels: of the image, or columns of the vector.

    Example:
        >>> norm = ActNorm(2)
        >>> x = torch.tensor([[1.0, 5.0], [3.0, 9.0]])
        >>> initialise(norm, x)
        >>> norm(x)[0].mean(0).tolist()
        [0.0, 0.0]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def standardise(self, x: Tensor) -> None:
        """Set scale and shift so that x comes out with mean 0 and variance 1 in every channel."""
        values = x.transpose(0, 1).flatten(1)
        scale = values.std(1, correction=0).clamp(min=1e-6)
        self.log_scale.copy_(-scale.log())
        self.shift.copy_(-values.mean(1) / scale)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift each channel."""
        shape = (-1, *[1] * (x.ndim - 2))
        z = torch.addcmul(self.shift.view(shape), x, self.log_scale.exp().view(shape))
        return z, self.log_scale.sum() * math.prod(x.shape[2:])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Undo shift and scale."""
        shape = (-1, *[1] * (z.ndim - 2))
        return (z - self.shift.view(shape)) * torch.exp(-self.log_scale).view(shape)


@torch.no_grad()
def initialise(flow: nn.Module, x: Tensor, context: Tensor | None = None) -> None:
    """Send data through, so that every ActNorm sets itself by what reaches it."""
    handles = [
        layer.register_forward_pre_hook(lambda norm, arguments: norm.standardise(arguments[0]))
        for layer in flow.modules()
        if isinstance(layer, ActNorm)
    ]
    flow(x, context)
    for handle in handles:
        handle.remove()


class InvertibleConv(Bijection):
    """A 1×1 convolution by W = P L (U + diag(s)), whose log-determinant is Σ log |s| a pixel.

    P stays as it begins, by the LU decomposition of a random rotation. One square matrix holds all that is learnt:
    L below the diagonal, U above it, log |s| on it.

    Args:
        channels: of the image.

    Example:
        >>> conv = InvertibleConv(3)
        >>> float(torch.linalg.det(conv.weight()).detach().abs().round(decimals=5))
        1.0
    """

    permutation: Tensor
    signs: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = nn.init.orthogonal_(torch.empty(channels, channels))
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("signs", diagonal.sign())
        self.factors = nn.Parameter(lower.tril(-1) + upper.triu(1) + torch.diag(diagonal.abs().log()))

    def weight(self) -> Tensor:
        """Return W, (channels, channels)."""
        with torch.autocast(self.factors.device.type, enabled=False):
            lower = self.factors.tril(-1) + torch.eye(len(self.factors)).to(self.factors)
            upper = self.factors.triu(1) + torch.diag(self.signs * self.factors.diagonal().exp())
            return self.permutation @ lower @ upper

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix the channels of every pixel; in full precision, whatever the networks compute in."""
        with torch.autocast(x.device.type, enabled=False):
            z = F.conv2d(x, self.weight()[:, :, None, None])
        return z, self.factors.diagonal().sum() * math.prod(x.shape[2:])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Mix the channels back, by an inverse taken in float64."""
        with torch.autocast(z.device.type, enabled=False):
            back = torch.linalg.inv(self.weight().double().cpu()).to(z)
            return F.conv2d(z, back[:, :, None, None])


class Squeeze(Bijection):
    """Each 2×2 square of pixels becomes four times the channels: its black fields first, then its white ones.

    A split of the channels in halves is then the split of the image by a checkerboard.

    Example:
        >>> Squeeze()(torch.arange(4.0).view(1, 1, 2, 2))[0].flatten().tolist()
        [0.0, 3.0, 1.0, 2.0]
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map (n, c, h, w), both sides even, to (n, 4c, h/2, w/2)."""
        rows = x[:, :, 0::2], x[:, :, 1::2]
        fields = rows[0][..., 0::2], rows[1][..., 1::2], rows[0][..., 1::2], rows[1][..., 0::2]
        return torch.cat(fields, dim=1), x.new_zeros(())

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Map (n, 4c, h/2, w/2) to (n, c, h, w)."""
        a, d, b, c = z.chunk(4, dim=1)
        upper, lower = torch.stack([a, b], dim=-1).flatten(-2), torch.stack([c, d], dim=-1).flatten(-2)
        return torch.stack([upper, lower], dim=-2).flatten(-3, -2)


class Regroup(Bijection):
    """Turns the halves by checkerboard that `Squeeze` leaves into halves by row, and back: the channel-wise mask.

    Example:
        >>> Regroup()(torch.tensor([[0.0, 3.0, 1.0, 2.0]]))[0].tolist()
        [[0.0, 1.0, 3.0, 2.0]]
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Exchange the second and the third quarter of the channels."""
        first, second, third, fourth = x.chunk(4, dim=1)
        return torch.cat([first, third, second, fourth], dim=1), x.new_zeros(())

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Exchange them again."""
        return self.forward(z)[0]


class Levels(Bijection):
    """Grey levels, as real numbers from 0 to 256, to the numbers that a flow is good at.

    With α = 0 they are scaled to [-1, 1); else they go through logit(α + (1 − 2α) x / 256), which sends the borders
    towards infinity (Dinh et al. 2017, section 4.1, made symmetric). Its inverse leaves the range a little, by α.

    Args:
        alpha: α, from 0 to below 0.5.

    Example:
        >>> Levels(0.0)(torch.tensor([[0.0, 128.0]]))[0].tolist()
        [[-1.0, 0.0]]
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map grey levels to real numbers; for the logit they must lie between 0 and 256."""
        n_dims = math.prod(x.shape[1:])
        if not self.alpha:
            return x / 128 - 1, x.new_full((), -n_dims * math.log(128))
        slope = (1 - 2 * self.alpha) / 256
        share = self.alpha + slope * x
        log_share, log_rest = share.log(), torch.log1p(-share)
        return log_share - log_rest, n_dims * math.log(slope) - (log_share + log_rest).flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Map real numbers to grey levels, outside 0 to 256 where the model puts them there."""
        if not self.alpha:
            return (z + 1) * 128
        return (torch.sigmoid(z) - self.alpha) * (256 / (1 - 2 * self.alpha))


class Flat(Bijection):
    """A bijection of vectors, applied to images as vectors of all their numbers.

    Args:
        inner: the bijection of (n, c · h · w).
    """

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Flatten, map, and give the shape back."""
        z, log_det = self.inner(x.flatten(1), context)
        return z.reshape(x.shape), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Flatten, map back, and give the shape back."""
        return self.inner.inverse(z.flatten(1), context).reshape(z.shape)


class ConditionalAffine(Bijection):
    """Vectors standardised by a mean and a scale that depend on the context: a Gaussian prior a class.

    Args:
        features: size of the vector.
        context: size of the context.
        bound: largest |log scale|.

    Example:
        >>> ConditionalAffine(3, 2)(torch.ones(1, 3), torch.ones(1, 2))[0].tolist()
        [[1.0, 1.0, 1.0]]
    """

    def __init__(self, features: int, context: int, *, bound: float = LOG_SCALE_BOUND) -> None:
        super().__init__()
        self.bound = bound
        self.prior = nn.Parameter(torch.zeros(context, 2 * features))

    def _mean_and_log_scale(self, context: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(context.device.type, enabled=False):
            mean, raw = (context.flatten(1).to(self.prior) @ self.prior).chunk(2, dim=1)
        return mean, bounded(raw, self.bound)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Subtract the context's mean and divide by its scale; without a context nothing changes."""
        if context is None:
            return x, x.new_zeros(())
        mean, log_scale = self._mean_and_log_scale(context)
        return (x - mean) * torch.exp(-log_scale), -log_scale.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Multiply by the context's scale and add its mean."""
        if context is None:
            return z
        mean, log_scale = self._mean_and_log_scale(context)
        return torch.addcmul(mean, z, log_scale.exp())


class MultiScale(Bijection):
    """Levels of bijections; after each but the last, half of the channels are done and the other half goes on.

    Args:
        levels: the bijections of each level.
        shapes: shape (channels, height, width) that each level leaves, its channels even for all but the last.

    Example:
        >>> flow = MultiScale([Squeeze(), Squeeze()], [(4, 2, 2), (8, 1, 1)])
        >>> flow(torch.zeros(3, 1, 4, 4))[0].shape
        torch.Size([3, 16])
    """

    def __init__(self, levels: Sequence[Bijection], shapes: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        # What is done at each level: the second half of the channels, and at the last all of them.
        self.done = [(channels // 2, *sides) for channels, *sides in shapes[:-1]] + [shapes[-1]]
        self.sizes = [math.prod(shape) for shape in self.done]

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map (n, c, h, w) to (n, c · h · w), the numbers that are done first standing first."""
        done, total = [], x.new_zeros(len(x))
        for number, level in enumerate(self.levels):
            x, log_det = level(x, context)
            total = total + log_det
            if number < len(self.levels) - 1:
                x, half = x.chunk(2, dim=1)
                done.append(half.flatten(1))
        return torch.cat([*done, x.flatten(1)], dim=1), total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Map (n, c · h · w) to (n, c, h, w)."""
        halves = [
            half.reshape(len(z), *shape)
            for half, shape in zip(torch.split(z, self.sizes, dim=1), self.done, strict=True)
        ]
        x = halves.pop()
        for level in reversed(cast("Sequence[Bijection]", self.levels)):
            x = level.inverse(x, context)
            if halves:
                x = torch.cat([x, halves.pop()], dim=1)
        return x


class VectorFlow(Bijection):
    """RealNVP on vectors: a standard normal that couplings with small networks bend into any density.

    References:
        Dinh et al. (2017), arXiv:1605.08803.

    Args:
        features: size of the vectors, 2 at least.
        couplings: number of couplings; the halves of the vector change by turns.
        width: size of the networks' two hidden layers.
        context: size of a vector that the density depends on, such as a class one-hot; 0 for none.
        bound: largest |log scale| of one coupling.

    Example:
        >>> flow = VectorFlow(4)
        >>> initialise(flow, torch.arange(40.0).view(10, 4))
        >>> flow.log_prob(torch.zeros(3, 4)).shape, flow.sample(5).shape
        (torch.Size([3]), torch.Size([5, 4]))
    """

    def __init__(
        self, features: int, *, couplings: int = 6, width: int = 64, context: int = 0, bound: float = LOG_SCALE_BOUND
    ) -> None:
        super().__init__()
        self.features = features
        self.norm = ActNorm(features)
        self.couplings = Couplings(
            (features - features // 2, features // 2),
            lambda in_features, out_features: Mlp(in_features, out_features, width=width, context=context),
            n=couplings,
            bound=bound,
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map vectors (n, features) to standard normal ones; return the log-determinant too, (n,)."""
        standardised, first = self.norm(x)
        z, second = self.couplings(standardised, context)
        return z, first + second

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Map standard normal vectors to vectors as the data's."""
        return self.norm.inverse(self.couplings.inverse(z, context))

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return log p(x | context) in nats, (n,)."""
        z, log_det = self(x, context)
        return standard_normal_log_prob(z) + log_det  # type: ignore[no-any-return]

    def sample(self, n: int, context: Tensor | None = None, *, normal: Callable[..., Tensor] = torch.randn) -> Tensor:
        """Draw n vectors, (n, features).

        Args:
            n: number of vectors.
            context: (n, context), or None.
            normal: given a shape, returns standard normal numbers; `Noise(seed).normal` makes the draw repeatable.
        """
        return self.inverse(normal(n, self.features), context)
