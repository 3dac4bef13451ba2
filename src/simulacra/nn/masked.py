"""Masked convolutions and gated blocks: van den Oord et al. (2016), arXiv:1606.05328, and their per-pixel evaluation.

A pixel may depend on those before it in raster order: all rows above, and its own row to the left. The vertical stack
sees the rows above, the horizontal one the own row and what the vertical stack made of the rows above, so that together
they see every earlier pixel, with no blind spot. Kernels are cut to what they may see instead of multiplied by a mask:
the same function at half the work.
"""

from collections.abc import Sequence
from itertools import cycle, islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedConv(nn.Conv2d):
    """Convolution whose kernel is cut to what it may see, and whose image is padded (cut, where negative) to match.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        taps: rows and columns of the cut kernel.
        margin: pixels added left, right, above and below.
        bias: add one.
        dilation: pixels from one tap to the next (Yu & Koltun 2016, arXiv:1511.07122).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        taps: tuple[int, int],
        margin: tuple[int, ...],
        *,
        bias: bool,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, taps, bias=bias, dilation=dilation)
        self.margin, self.reach = margin, margin[0]

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h, w)."""
        return super().forward(F.pad(x, self.margin))

    def matrix(self) -> Tensor:
        """Return the weights as (out_channels, taps · in_channels), taps from left to right, row by row."""
        return self.weight.permute(0, 2, 3, 1).flatten(1).contiguous()


class VerticalConv(MaskedConv):
    """Convolution over the rows above, and over the own row too unless `strict` (mask A).

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel: rows and columns of the uncut kernel, odd.
        strict: leave the own row out. The strict one, which comes first, has a bias; what the others add before their
            gates comes with the class.
        dilation: pixels from one tap to the next.

    Example:
        >>> VerticalConv(2, 4, 3)(torch.zeros(1, 2, 5, 6)).shape
        torch.Size([1, 4, 5, 6])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, strict: bool = False, dilation: int = 1
    ) -> None:
        half, reach = kernel // 2, dilation * (kernel // 2)
        margin = (reach, reach, reach, -dilation if strict else 0)
        super().__init__(
            in_channels, out_channels, (half + (not strict), kernel), margin, bias=strict, dilation=dilation
        )


class HorizontalConv(MaskedConv):
    """Convolution over the own row to the left, and over the own pixel too unless `strict` (mask A).

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel: columns of the uncut kernel, odd.
        strict: leave the own pixel out; the bias as in VerticalConv.
        dilation: pixels from one tap to the next.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, strict: bool = False, dilation: int = 1
    ) -> None:
        half, reach = kernel // 2, dilation * (kernel // 2)
        margin = (reach, -dilation if strict else 0, 0, 0)
        super().__init__(in_channels, out_channels, (1, half + (not strict)), margin, bias=strict, dilation=dilation)


class Pointwise(nn.Conv2d):
    """1×1 convolution, done as the matrix product that it is where there is but one pixel: that takes a tenth as long.

    Args:
        in_channels: channels in.
        out_channels: channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h, w)."""
        if x.shape[2:] == (1, 1):
            return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]
        return super().forward(x)


def gate(x: Tensor, dim: int = 1) -> Tensor:
    """Return the tanh of the first half times the sigmoid of the second (equation 2)."""
    value, opening = x.chunk(2, dim)
    # Half the channels of channels_last memory lie in pieces, which the sigmoid takes five times as long over.
    return torch.tanh(value) * torch.sigmoid(opening.clone())


def keep_variance(module: nn.Module) -> None:
    """Draw a convolution's weights so that its output varies as its input does (LeCun et al. 1998).

    Torch's own are so small that activations, and with them the gradients of deep layers, shrink threefold a layer.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")


class GatedLayer(nn.Module):
    """One layer of both stacks (figure 2), with a residual connection in each and a skip connection out.

    Args:
        width: channels of each stack.
        kernel: rows and columns of both convolutions, uncut.
        n_classes: classes, each with a bias of its own before the gates (equation 4); 0 for one bias for all.
        features: channels of the skip connection.
        dilation: pixels from one tap of the convolutions to the next.
    """

    def __init__(self, width: int, kernel: int, n_classes: int, features: int, dilation: int) -> None:
        super().__init__()
        self.width = width
        self.vertical = VerticalConv(width, 2 * width, kernel, dilation=dilation)
        self.horizontal = HorizontalConv(width, 2 * width, kernel, dilation=dilation)
        self.link = nn.Conv2d(2 * width, 2 * width, 1, bias=False)
        self.out = nn.Conv2d(width, width + features, 1)
        # Not zero: gates that begin equal for all classes are slow to tell them apart.
        self.bias = nn.Parameter(nn.init.trunc_normal_(torch.empty(max(1, n_classes), 4 * width), std=0.5))

    def biases(self, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what is added before the vertical and the horizontal gate, (n or 1, 2 · width, 1, 1) each."""
        above, left = (self.bias if y is None else self.bias[y])[:, :, None, None].chunk(2, dim=1)
        return above, left

    def forward(self, v: Tensor, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return both stacks, (n, width, rows, columns) each, and the skip connection (n, features, rows, columns)."""
        seen = self.vertical(v)
        # In the activations' precision: a sum with float32 would be float32, and so all that follows.
        above, left = (bias.to(seen.dtype) for bias in self.biases(y))
        residual, skip = self.out(gate(self.horizontal(h) + self.link(seen) + left)).tensor_split([self.width], dim=1)
        return v + gate(seen + above), h + residual, skip


class GatedStack(nn.Module):
    """Features of each pixel that depend on all pixels before it in raster order, and on no other.

    Beside the image the first convolutions see three planes: one of ones, which tells the border from grey, and each
    pixel's row and column. What a class adds at each place (equation 5) is learnt as few planes that both stacks mix.

    Args:
        shape: channels, height and width of the images.
        width: channels of each stack.
        n_layers: gated layers.
        kernel: rows and columns of their convolutions, odd.
        first_kernel: of the first convolutions, odd.
        dilations: of the layers' convolutions, taken in turn. Growing ones let few layers see far; one beyond what the
            layers before it reach would leave pixels unseen.
        n_classes: classes that it is conditioned on; 0 for none.
        templates: planes that say where a class, or any image without classes, has its strokes.
        features: channels out.

    Example:
        >>> sizes = {"width": 4, "kernel": 3, "first_kernel": 5, "templates": 2, "features": 6}
        >>> stack = GatedStack((1, 8, 8), n_layers=2, n_classes=0, **sizes)
        >>> stack(torch.zeros(2, 1, 8, 8), None).shape
        torch.Size([2, 6, 8, 8])
    """

    place: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        width: int,
        n_layers: int,
        kernel: int,
        first_kernel: int,
        dilations: Sequence[int] = (1,),
        n_classes: int,
        templates: int,
        features: int,
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.n_classes = n_classes
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, breadth)
        place = torch.stack([torch.ones(height, breadth), *torch.meshgrid(rows, columns, indexing="ij")])
        self.register_buffer("place", place[None], persistent=False)
        self.vertical = VerticalConv(channels + 3, width, first_kernel, strict=True)
        self.horizontal = HorizontalConv(channels + 3, width, first_kernel, strict=True)
        self.templates = nn.Parameter(torch.zeros(max(1, n_classes), templates, height, breadth))
        self.mix = nn.Conv2d(templates, 2 * width, 1, bias=False)
        self.layers = nn.ModuleList(
            GatedLayer(width, kernel, n_classes, features, dilation) for dilation in islice(cycle(dilations), n_layers)
        )
        self.apply(keep_variance)

    def expected(self, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what the class adds to the vertical and to the horizontal stack, (n or 1, width, h, w) each."""
        vertical, horizontal = self.mix(self.templates if y is None else self.templates[y]).chunk(2, dim=1)
        return vertical, horizontal

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Map images in [-1, 1], (n, channels, h, w), and classes (n,) to features (n, features, h, w)."""
        known = y if self.n_classes else None
        planes = torch.cat([x, self.place.expand(len(x), -1, -1, -1)], dim=1)
        v, h = self.expected(known)
        v, h = v + self.vertical(planes), h + self.horizontal(planes)
        total = torch.zeros((), device=x.device)
        for layer in self.layers:
            v, h, skip = layer(v, h, known)
            total = total + skip
        return F.silu(total)


class PixelByPixel:
    """A stack's features at one pixel after the other, in raster order, each layer doing only what is new.

    The vertical stack is computed a row at a time from the rows above that each layer keeps, the horizontal one a pixel
    at a time from the pixels to the left. Every number is the one that `stack(x, y)` would give there.

    Args:
        stack: whose features.
        y: the class of each image, (n,).

    Example:
        >>> sizes = {"width": 4, "kernel": 3, "first_kernel": 5, "templates": 2, "features": 6}
        >>> stack = GatedStack((1, 8, 8), n_layers=2, n_classes=0, **sizes)
        >>> walk = PixelByPixel(stack, torch.zeros(2, dtype=torch.long))
        >>> walk.begin_row(0)
        >>> walk.features().shape
        torch.Size([2, 6])
        >>> walk.put(torch.ones(2, 1))
    """

    def __init__(self, stack: GatedStack, y: Tensor) -> None:
        self.stack = stack
        self.reach = stack.vertical.reach
        channels = stack.vertical.in_channels - stack.place.shape[1]
        blank = stack.place.new_zeros(len(y), channels, *stack.place.shape[2:])
        planes = torch.cat([blank, stack.place.expand(len(y), -1, -1, -1)], dim=1)
        self.planes = F.pad(planes, (self.reach, self.reach, self.reach, 0))
        self.pixels = self.planes[:, :channels, self.reach :, self.reach : -self.reach]
        self.matrix, self.bias = stack.horizontal.matrix(), stack.horizontal.bias
        known = y if stack.n_classes else None
        self.expected = [part.permute(2, 3, 0, 1).contiguous() for part in stack.expected(known)]
        size = (len(y), *blank.shape[2:])
        self.layers = [_LayerByPixel(layer, known, *size) for layer in stack.layers]  # type: ignore[arg-type]
        self.row = self.column = 0

    def begin_row(self, row: int) -> None:
        """Let the vertical stack see the rows above."""
        self.row, self.column = row, 0
        stem = self.stack.vertical
        v = F.conv2d(self.planes[:, :, row : row + self.reach], stem.weight, stem.bias).squeeze(2).transpose(1, 2)
        v = v + self.expected[0][row].transpose(0, 1)
        for layer in self.layers:
            v = layer.begin_row(row, v)

    def features(self) -> Tensor:
        """Return the present pixel's features, (n, features)."""
        seen = self.planes[:, :, self.row + self.reach, self.column : self.column + self.reach]
        h = F.linear(seen.transpose(1, 2).flatten(1), self.matrix, self.bias)
        h = h + self.expected[1][self.row, self.column]
        total = torch.zeros(())
        for layer in self.layers:
            h, skip = layer.pixel(h, self.column)
            total = total + skip
        return F.silu(total)

    def put(self, pixel: Tensor) -> None:
        """Set the present pixel, (n, channels), and go on to the next of the row."""
        self.pixels[:, :, self.row, self.column] = pixel
        self.column += 1


class _LayerByPixel:
    """What one gated layer keeps: the rows of the vertical stack, and the horizontal stack's present row.

    Channels come last, so that what a kernel sees is one row of a matrix.
    """

    def __init__(self, layer: GatedLayer, y: Tensor | None, n: int, height: int, breadth: int) -> None:
        self.reach, self.width, self.breadth = layer.vertical.reach, layer.width, breadth
        self.dilation = layer.vertical.dilation[0]
        like = layer.bias
        self.above = like.new_zeros(self.reach + height, n, breadth + 2 * self.reach, self.width)
        self.left = like.new_zeros(n, self.reach + breadth, self.width)
        self.given = like.new_zeros(n, breadth, 2 * self.width)
        self.above_bias, self.left_bias = (bias.squeeze(3).transpose(1, 2) for bias in layer.biases(y))
        self.vertical, self.horizontal = layer.vertical.matrix(), layer.horizontal.matrix().t()
        self.link, self.out, self.out_bias = layer.link.weight.flatten(1), layer.out.weight.flatten(1), layer.out.bias

    def begin_row(self, row: int, v: Tensor) -> Tensor:
        """Take a row of the vertical stack, (n, w, width), and return the next layer's."""
        self.above[row + self.reach, :, self.reach : self.reach + self.breadth] = v
        rows = self.above[row : row + self.reach + 1 : self.dilation]
        lefts = range(0, 2 * self.reach + 1, self.dilation)
        seen = torch.cat([above[:, left : left + self.breadth] for above in rows for left in lefts], dim=2)
        seen = F.linear(seen, self.vertical)
        self.given.copy_(F.linear(seen, self.link) + self.left_bias)
        return v + gate(seen + self.above_bias, dim=2)

    def pixel(self, h: Tensor, column: int) -> tuple[Tensor, Tensor]:
        """Take a pixel of the horizontal stack, (n, width); return the next layer's, and the skip connection."""
        self.left[:, column + self.reach] = h
        seen = self.left[:, column : column + self.reach + 1 : self.dilation].flatten(1)
        gated = gate(torch.addmm(self.given[:, column], seen, self.horizontal))
        out = F.linear(gated, self.out, self.out_bias)
        return h + out[:, : self.width], out[:, self.width :]
