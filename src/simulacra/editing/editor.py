"""A diffusion model set to work on given images: fill a hole, redraw, pass from one to another."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulacra.data.image_set import ImageSet
from simulacra.diffusion import editing
from simulacra.diffusion.formulations import Denoise
from simulacra.diffusion.samplers import Sampler, final
from simulacra.editing.masks import Mask
from simulacra.errors import SimulacraError
from simulacra.models.base import Condition, Prompt
from simulacra.models.diffusion import CHUNK, Diffusion
from simulacra.training.batches import to_float, to_uint8
from simulacra.training.noise import Noise

Pixels = NDArray[np.uint8]
Redraw = Callable[[slice, Denoise, Noise, torch.device], Tensor]
"""From the rows of a chunk, what denoises them, and where noise comes from, to what is made of them."""


class Editor:
    """Edits images by a fitted model, with its sampler, its guidance, and its classes or captions.

    Args:
        model: a fitted diffusion model.

    Example:
        >>> from simulacra.data.fabricate import fabricate_images
        >>> from simulacra.models.diffusion import DiffusionConfig
        >>> from simulacra.training.config import TrainingConfig
        >>> model = Diffusion(DiffusionConfig(width=8, sampler_steps=3))
        >>> data = fabricate_images(n=40, size=8, channels=1, n_classes=2, seed=0)
        >>> history = model.fit(data, training=TrainingConfig(steps=2))
        >>> hole = np.zeros((8, 8), bool)
        >>> hole[2:5, 2:5] = True
        >>> filled = Editor(model).inpaint(data.images, hole, seed=0).images
        >>> bool((filled == data.images)[:, :, ~hole].all())
        True
    """

    def __init__(self, model: Diffusion) -> None:
        self.model = model

    @property
    def conditional(self) -> bool:
        """Whether the model can be told classes."""
        return self.model.conditional

    def inpaint(
        self,
        images: Pixels,
        mask: Mask,
        *,
        condition: Condition = None,
        resamplings: int = 1,
        jump: int = 1,
        steps: int | None = None,
        seed: int,
    ) -> ImageSet:
        """Fill a part of images anew; every pixel outside it is the input's, byte for byte.

        Args:
            images: (n, channels, height, width); what they hold inside the mask is not looked at.
            mask: true where to fill, (height, width).
            condition: the classes; None leaves them to what is seen around the fill.
            resamplings: how often each stretch of the way from noise is gone; see `diffusion.editing.inpaint`.
            jump: steps in a stretch.
            steps: of the sampler; by default the configured ones.
            seed: decides the fill.

        Raises:
            SimulacraError: in latent space, whose codes have no pixels to hold, and where there is no estimate without
                class.
        """
        if self.model.config.space == "latent":
            raise SimulacraError("inpainting needs pixels, and this diffusion is of codes; set model.space: pixel")
        levels = self.model.levels(steps)
        options: dict[str, Any] = {"resamplings": resamplings, "jump": self.model.levels_a_step * jump}

        def filled(rows: slice, denoise: Denoise, noise: Noise, device: torch.device) -> Tensor:
            x0 = self._given(images[rows], noise, device)
            hole = torch.from_numpy(mask).to(device).expand_as(x0)
            how = options | {"sampler": self._sampler(noise), "normal": noise.normal}
            return final(x0, editing.inpaint(denoise, x0, hole, levels, **how))

        fills = self._redrawn(filled, len(images), condition, seed)
        return self._told(np.where(mask, fills, images), condition)

    def image_to_image(
        self, images: Pixels, *, strength: float, condition: Condition = None, steps: int | None = None, seed: int
    ) -> ImageSet:
        """Redraw images: add as much noise as the strength says, and undo it.

        Args:
            images: (n, channels, height, width).
            strength: share of the sampler's steps, from 0, which returns the images, to 1, which forgets them.
            condition: the classes to redraw them as; None for no class in particular.
            steps: of the whole way; by default the configured ones.
            seed: decides the noise.

        Raises:
            SimulacraError: for a strength that is no share, and where there is no estimate without class.
        """
        if not 0 <= strength <= 1:
            raise SimulacraError(f"strength must lie between 0 and 1, got {strength}")
        levels = self.model.levels(steps)

        def redrawn(rows: slice, denoise: Denoise, noise: Noise, device: torch.device) -> Tensor:
            x0 = self._given(images[rows], noise, device)
            how: dict[str, Any] = {"sampler": self._sampler(noise), "normal": noise.normal}
            return final(x0, editing.image_to_image(denoise, x0, levels, strength=strength, **how))

        # In latent space even an image to which no noise is added would go through the autoencoder.
        found = self._redrawn(redrawn, len(images), condition, seed) if strength else images.copy()
        return self._told(found, condition)

    def interpolate(
        self,
        starts: Pixels,
        ends: Pixels,
        *,
        pictures: int,
        condition: int | str | None = None,
        steps: int | None = None,
        seed: int,
    ) -> ImageSet:
        """Return pictures on the way from one image to another through noise, so many a pair, pair after pair.

        The first and the last of each are nearly the images themselves: see `diffusion.editing.interpolate`.

        Args:
            starts: (n, channels, height, width).
            ends: same shape.
            pictures: how many a pair, at least 2.
            condition: the class of all pictures; None for no class in particular.
            steps: of the way to the noise, and of the way back; by default the configured ones.
            seed: decides the little noise that the way begins with.

        Raises:
            SimulacraError: where there is no estimate without class.
        """
        levels = self.model.network.formulation.levels(steps or self.model.config.sampler_steps)

        def passed(rows: slice, denoise: Denoise, noise: Noise, device: torch.device) -> Tensor:
            first, last = (self._given(images[rows], noise, device) for images in (starts, ends))
            path = editing.interpolate(denoise, first, last, levels, pictures=pictures, normal=noise.normal)
            return path.flatten(0, 1)

        return self._told(self._redrawn(passed, len(starts), condition, seed), condition)

    def _redrawn(self, redraw: Redraw, n: int, condition: Condition, seed: int) -> Pixels:
        """Return the pictures that come of n images, chunk by chunk."""
        one = condition is None or isinstance(condition, int | str | Prompt)
        classes = self._classes(1 if one else n, condition)
        noise, parts = Noise(seed), [np.empty((0, *self.model.shape), np.uint8)]
        with self.model.ready() as device:
            for start in range(0, n, CHUNK):
                rows = slice(start, start + CHUNK)
                # A single class stands for any number of images.
                y = torch.from_numpy(classes if one else classes[rows]).to(device)
                # Guidance compares a class with none, and says nothing where there is none.
                denoise = self.model.denoiser(y, guidance=1.0 if condition is None else None)
                found = self.model.network.decode(redraw(rows, denoise, noise, device))
                parts.append(to_uint8(found.float()).cpu().numpy())
        return np.concatenate(parts)

    def _classes(self, n: int, condition: Condition) -> NDArray[np.int64]:
        """Return one index of a class or caption an image, the null class for None."""
        classes = self.model.network.classes
        if condition is not None or classes is None:
            return self.model.choose_captions(n, condition, np.random.default_rng(0))
        if not self.model.config.unconditional_share:
            raise SimulacraError(
                f"{self.model.name} was trained with every image's class and cannot do without: say the class, or "
                "train it with model.unconditional_share above 0"
            )
        return classes.null(n).numpy()

    def _given(self, images: Pixels, noise: Noise, device: torch.device) -> Tensor:
        """Return what is diffused of images at rest."""
        return self.model.network.encode(to_float(torch.from_numpy(images)).to(device), noise)

    def _told(self, images: Pixels, condition: Condition) -> ImageSet:
        """Wrap results, with their classes where they were told."""
        if condition is None:
            return ImageSet(images)
        classes = self.model.choose_classes(len(images), condition, np.random.default_rng(0))
        return self.model.labelled(images, classes)

    def _sampler(self, noise: Noise) -> Sampler:
        """Return the configured sampler, whose noise is drawn from here."""
        return lambda denoise, x, levels: self.model.trajectory(denoise, x, levels, normal=noise.normal)
