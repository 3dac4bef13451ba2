"""What a network is trained to say, and the image that follows from it: DDPM, flow matching, EDM.

The network sees a scaled state and a clock from 0 to 1. Each formulation turns its answer into an estimate of the image
x₀, which is the one currency that samplers, guidance and bounds trade in. Noise and score follow from it and the level.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from simulacra.diffusion.schedules import SCHEDULES, Level, noised

Network = Callable[[Tensor, Tensor], Tensor]
"""From states (n, …) and clock (n,) to a tensor of the states' shape; conditions are bound already."""
Denoise = Callable[[Tensor, Level], Tensor]
"""From states (n, …) and their level to estimates of the images behind them, of the same shape."""
Prediction = Literal["epsilon", "x0", "v"]
Spacing = Literal["time", "karras"]
KARRAS = (0.01, 80.0)
"""Least and greatest σ / α of the spacing `karras` but for EDM, which has its own; below the least, noise is about the
step between two of 256 levels of grey."""


class Formulation(ABC):
    """Times and levels, the network's target and weight, and the way back to x₀."""

    karras_range = KARRAS

    @abstractmethod
    def draw_time(self, uniform: Tensor) -> Tensor:
        """Return the times to train at, for numbers in [0, 1)."""

    @abstractmethod
    def at(self, time: Tensor) -> Level:
        """Return the level at times of shape (n,) or ()."""

    @abstractmethod
    def clock(self, level: Level) -> Tensor:
        """Return what the network is told of the time, from 0 to 1."""

    @abstractmethod
    def even(self, steps: int) -> list[Level]:
        """Return steps + 1 levels as the formulation's paper has them, evenly in time where it does not say."""

    @abstractmethod
    def time_of(self, ratio: Tensor) -> Tensor:
        """Return the times at which σ / α is this, (n,)."""

    def levels(self, steps: int, spacing: Spacing = "time") -> list[Level]:
        """Return steps + 1 levels to sample along, the noisiest first; the last has no noise.

        Args:
            steps: how many; fewer are taken where the formulation does not have so many times.
            spacing: "time" for those of `even`, "karras" for `karras` over `karras_range`.
        """
        if spacing == "time":
            return self.even(steps)
        times = dict.fromkeys(self.time_of(karras(steps, *self.karras_range)).tolist())
        return [self.at(torch.tensor(time, dtype=torch.float64)) for time in (*times, 0.0)]

    @abstractmethod
    def target(self, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        """Return what the network should answer."""

    @abstractmethod
    def x0_of(self, answer: Tensor, x: Tensor, level: Level) -> Tensor:
        """Return the image that follows from an answer."""

    def weight(self, level: Level) -> Tensor:
        """Return the weight of the squared error at a level."""
        return torch.ones_like(level.sigma)

    def scale(self, level: Level) -> Tensor:
        """Return the factor by which a state is scaled before the network sees it."""
        return torch.ones_like(level.sigma)

    def answer(self, network: Network, x: Tensor, level: Level) -> Tensor:
        """Return the network's answer for states (n, …)."""
        wide = level.along(x)
        clock = self.clock(level).to(x.device, torch.float32).expand(len(x))
        return network((self.scale(wide) * x).to(x.dtype), clock)

    def denoise(self, network: Network) -> Denoise:
        """Return the network as a denoiser."""

        def estimate(x: Tensor, level: Level) -> Tensor:
            return self.x0_of(self.answer(network, x, level).to(x.dtype), x, level.along(x))

        return estimate

    def losses(self, network: Network, x0: Tensor, *, noise: Tensor, uniform: Tensor) -> Tensor:
        """Return the weighted squared error a pixel of each image, (n,), at one time each.

        Args:
            network: gives the answers.
            x0: images, (n, …).
            noise: standard normal numbers, (n, …).
            uniform: numbers in [0, 1) that the times follow from, (n,).
        """
        level = self.at(self.draw_time(uniform))
        wide = level.along(x0)
        error = self.answer(network, noised(x0, level, noise), level) - self.target(x0, noise, wide)
        return self.weight(level).to(x0.device, x0.dtype) * error.square().flatten(1).mean(1)


def min_snr_weight(snr: Tensor, prediction: Prediction, gamma: float) -> Tensor:
    """Return the weight of a squared error of ε, x₀ or v that makes it min(SNR, γ) for x₀.

    Source: Hang et al. (2023), arXiv:2303.09556, section 3.4: min(SNR, γ) for x₀, over SNR for ε, over SNR + 1 for v.
    """
    clipped = snr.clamp(max=gamma)
    return {"x0": clipped, "epsilon": clipped / snr, "v": clipped / (snr + 1)}[prediction]


class DDPM(Formulation):
    """Discrete time, α² + σ² = 1: Ho et al. (2020), arXiv:2006.11239.

    Times are 0, without noise, to T.

    References:
        Salimans & Ho (2022), arXiv:2202.00512, for v = α ε − σ x₀.

    Args:
        timesteps: T.
        schedule: a name in SCHEDULES.
        prediction: what the network answers.
        min_snr_gamma: weigh by min-SNR-γ; 0 weighs all times alike.

    Example:
        >>> DDPM(timesteps=1000).levels(2)[1].time
        tensor(500.)
    """

    def __init__(
        self,
        *,
        timesteps: int = 1000,
        schedule: str = "cosine",
        prediction: Prediction = "epsilon",
        min_snr_gamma: float = 0.0,
    ) -> None:
        self.timesteps, self.prediction, self.min_snr_gamma = timesteps, prediction, min_snr_gamma
        self.alphas_bar = SCHEDULES[schedule](timesteps)

    def draw_time(self, uniform: Tensor) -> Tensor:
        """Return whole times, 1 to T alike."""
        return (uniform * self.timesteps).floor() + 1

    def at(self, time: Tensor) -> Level:
        """Return the level at whole times."""
        alpha_bar = self.alphas_bar.to(time.device)[time.long()]
        return Level(time, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())

    def clock(self, level: Level) -> Tensor:
        """Return t / T."""
        return level.time / self.timesteps

    def time_of(self, ratio: Tensor) -> Tensor:
        """Return whole times, 1 to T."""
        ratios = ((1 - self.alphas_bar) / self.alphas_bar).sqrt()
        return torch.searchsorted(ratios, ratio).clamp(1, self.timesteps).double()

    def even(self, steps: int) -> list[Level]:
        """Return evenly spaced times, T first and 0 last; never more than T steps."""
        return [self.at(time) for time in torch.linspace(self.timesteps, 0, min(steps, self.timesteps) + 1).round()]

    def target(self, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        """Return ε, x₀ or v = α ε − σ x₀."""
        if self.prediction == "v":
            return level.alpha * noise - level.sigma * x0
        return noise if self.prediction == "epsilon" else x0

    def x0_of(self, answer: Tensor, x: Tensor, level: Level) -> Tensor:
        """Return x₀ = (x − σ ε) / α, or α x − σ v."""
        if self.prediction == "v":
            return level.alpha * x - level.sigma * answer
        return (x - level.sigma * answer) / level.alpha if self.prediction == "epsilon" else answer

    def weight(self, level: Level) -> Tensor:
        """Return 1, or min-SNR-γ's weight."""
        if not self.min_snr_gamma:
            return super().weight(level)
        return min_snr_weight(level.snr, self.prediction, self.min_snr_gamma)


class FlowMatching(Formulation):
    """A straight path from image to noise, x_t = (1 − t) x₀ + t ε: Lipman et al. (2023), arXiv:2210.02747.

    The network answers the velocity ε − x₀ (equation 23 with σ_min = 0 and time reversed, so that here too time grows
    with the noise).

    Example:
        >>> [float(level.alpha) for level in FlowMatching().levels(2)]
        [0.0, 0.5, 1.0]
    """

    def draw_time(self, uniform: Tensor) -> Tensor:
        """Return times from 0, excluded, to 1."""
        return 1 - uniform

    def at(self, time: Tensor) -> Level:
        """Return the level at times from 0 to 1."""
        return Level(time, 1 - time, time)

    def clock(self, level: Level) -> Tensor:
        """Return the time itself."""
        return level.time

    def time_of(self, ratio: Tensor) -> Tensor:
        """Return times from 0 to 1."""
        return ratio / (1 + ratio)

    def even(self, steps: int) -> list[Level]:
        """Return evenly spaced times from 1 to 0."""
        return [self.at(time) for time in torch.linspace(1, 0, steps + 1, dtype=torch.float64)]

    def target(self, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        """Return the velocity."""
        return noise - x0

    def x0_of(self, answer: Tensor, x: Tensor, level: Level) -> Tensor:
        """Return x₀ = x − t v."""
        return x - level.sigma * answer


class EDM(Formulation):
    """Noise added to an image that keeps its scale, α = 1, and a preconditioned network: Karras et al. (2022).

    The time is σ. With c_skip, c_out and c_in of table 1 of arXiv:2206.00364 the network's target has unit variance at
    every level, and the weight λ c_out² is 1.

    Args:
        sigma_data: standard deviation of the data.
        sigma_min: smallest noise to sample at but for none.
        sigma_max: largest.

    Example:
        >>> [round(float(level.sigma), 3) for level in EDM().levels(3)]
        [80.0, 2.515, 0.002, 0.0]
    """

    mean, deviation = -1.2, 1.2

    def __init__(self, *, sigma_data: float = 0.5, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        self.data_variance, self.sigma_min, self.sigma_max = sigma_data * sigma_data, sigma_min, sigma_max
        self.karras_range = (sigma_min, sigma_max)

    def draw_time(self, uniform: Tensor) -> Tensor:
        """Return log-normal σ (table 1, noise distribution), at most three deviations off."""
        normal: Tensor = torch.special.ndtri(uniform.clamp(1e-3, 1 - 1e-3))
        return (self.mean + self.deviation * normal).exp()

    def at(self, time: Tensor) -> Level:
        """Return the level at σ."""
        return Level(time, torch.ones_like(time), time)

    def clock(self, level: Level) -> Tensor:
        """Return where log σ lies between those of σ_min and σ_max."""
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return (level.sigma.log() - low) / (high - low)

    def time_of(self, ratio: Tensor) -> Tensor:
        """Return σ itself."""
        return ratio

    def even(self, steps: int) -> list[Level]:
        """Return the σ of equation 5, and 0."""
        return self.levels(steps, "karras")

    def scale(self, level: Level) -> Tensor:
        """Return c_in."""
        return (level.sigma.square() + self.data_variance).rsqrt()

    def _skip_and_out(self, level: Level) -> tuple[Tensor, Tensor]:
        c_in = self.scale(level)
        return self.data_variance * c_in.square(), level.sigma * math.sqrt(self.data_variance) * c_in

    def target(self, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        """Return (x₀ − c_skip x) / c_out (equation 8)."""
        skip, out = self._skip_and_out(level)
        return (x0 - skip * (x0 + level.sigma * noise)) / out

    def x0_of(self, answer: Tensor, x: Tensor, level: Level) -> Tensor:
        """Return D = c_skip x + c_out F (equation 7)."""
        skip, out = self._skip_and_out(level)
        return skip * x + out * answer


def karras(steps: int, low: float, high: float, rho: float = 7.0) -> Tensor:
    """Return noise levels from high to low, (steps,), denser the less noise there is.

    Source: Karras et al. (2022), arXiv:2206.00364, equation 5.

    Example:
        >>> karras(3, 0.01, 80.0).round(decimals=2)
        tensor([8.0000e+01, 3.4600e+00, 1.0000e-02], dtype=torch.float64)
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    levels: Tensor = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return levels


def couple(x0: Tensor, noise: Tensor, groups: Tensor | None = None) -> Tensor:
    """Return the rows of noise in the order that brings them nearest to the images, in summed squared distance.

    Optimal transport within the batch makes the paths of flow matching cross less: Tong et al. (2023),
    arXiv:2302.00482, section 3.3.2; Pooladian et al. (2023), arXiv:2304.14772. Each group keeps its own rows of noise:
    if classes exchanged theirs, the noise would tell the class, and no sampler knows how.

    Args:
        x0: images, (n, …).
        noise: standard normal numbers, same shape.
        groups: classes (n,); None for one group.
    """
    groups = torch.zeros(len(x0), dtype=torch.long) if groups is None else groups.cpu()
    order = torch.arange(len(x0))
    for group in set(groups.tolist()):
        rows = torch.nonzero(groups == group)[:, 0]
        order[rows] = rows[_assignment(x0[rows.to(x0.device)], noise[rows.to(x0.device)])]
    return noise[order.to(noise.device)]


def _assignment(x0: Tensor, noise: Tensor) -> Sequence[int]:
    """Return for each image the row of noise it is given."""
    from scipy.optimize import linear_sum_assignment

    images, numbers = (rows.flatten(1).double().cpu().numpy() for rows in (x0, noise))
    # −2 x·ε is all of the squared distance that depends on who is given whom.
    return [int(column) for column in linear_sum_assignment(-images @ numbers.T)[1]]
