"""Random augmentation of training images, independent per image, on their device.

The augmentation of image n of episode i is a pure function of the sampler's axes, i and n, as the
episode itself is. The transforms are those of MetaOptNet's official code (random crop, colour
jitter, flip), applied to all images together as one gather and one affine map of the colours.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from algorithms.learner import TaskBatch
from bench.core.philox import key_of, philox

ORDERS = tuple(permutations(range(3)))
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of the images of training episodes; the identity if all options are off.

    - ``crop_padding``: width in pixels of the black border that is added before a random crop of
      the original size;
    - ``flip``: whether half of the images are mirrored horizontally;
    - ``jitter``: brightness, contrast and saturation, in random order, are each multiplied by a
      number drawn from 1 - jitter to 1 + jitter, see `color_jitter`.
    """

    key: tuple[int, int]
    crop_padding: int = 0
    flip: bool = False
    jitter: float = 0.0

    @classmethod
    def of(cls, axes: object, crop_padding: int, flip: bool, jitter: float) -> "Augmentation":
        """Return an augmentation with a key hashed from the ``axes`` of the episodes."""
        return cls(key_of("augmentation", axes), crop_padding, flip, jitter)

    def __call__(self, episodes: TaskBatch, first: int) -> TaskBatch:
        """Return the episodes, numbered from ``first``, with augmented images, still uint8."""
        if not (self.crop_padding or self.flip or self.jitter):
            return episodes
        support, query = episodes.support_x, episodes.query_x
        both = torch.cat((support.flatten(1, 2), query), 1)
        tasks, count = both.shape[:2]
        words = self._words(first, tasks, count, both.device).flatten(0, 1)
        images = both.flatten(0, 1)
        if self.crop_padding or self.flip:
            mirrored = (words[:, 2] >> 31 == 1) & self.flip
            offsets = uniform_below(words[:, :2], 2 * self.crop_padding + 1)
            images = crop_and_flip(images, offsets, mirrored, self.crop_padding)
        if self.jitter:
            factors = 1 + self.jitter * (words[:, 4:7] * 2.0**-31 - 1)
            images = color_jitter(images, factors.float(), uniform_below(words[:, 3], len(ORDERS)))
        support_x, query_x = images.view_as(both).tensor_split(
            [support[0, :, :, 0, 0, 0].numel()], 1
        )
        return episodes._replace(support_x=support_x.reshape(support.shape), query_x=query_x)

    def _words(self, first: int, tasks: int, count: int, device: torch.device) -> Tensor:
        """Return eight random words for each image: [tasks, count, 8]."""
        number = torch.arange(first, first + tasks, device=device)[:, None, None]
        image = torch.arange(count, device=device)[:, None]
        block = torch.arange(2, device=device)
        return philox(self.key, (number & 0xFFFFFFFF, number >> 32, image, block)).flatten(2)


@cache
def constant(
    rows: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return a table as a tensor on a device, copied there once, as each copy is a host sync."""
    return torch.tensor(rows, dtype=dtype, device=device)


def uniform_below(words: Tensor, size: int) -> Tensor:
    """Return numbers from 0 to size - 1, from random 32-bit words."""
    return words * size >> 32


def crop_and_flip(images: Tensor, corners: Tensor, mirrored: Tensor, padding: int) -> Tensor:
    """Return crops of the padded images [B, C, H, W], mirrored where ``mirrored`` [B].

    ``corners`` [B, 2] are the top left corners of the crops in the padded images.
    """
    height, width = images.shape[2:]
    rows = corners[:, :1] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    columns = corners[:, 1:] + torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = F.pad(images, [padding] * 4)
    # One flat index into a channel, shared by all channels of the image.
    places = (rows[:, :, None] * padded.shape[3] + columns[:, None]).flatten(1)
    places = places[:, None].expand(-1, images.shape[1], -1)
    return padded.flatten(2).gather(2, places).view_as(images)


def color_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Return images [B, C, H, W], grey or RGB, with jittered colours, in their dtype.

    ``factors`` [B, 3] are those of brightness, contrast and saturation, ``order`` [B] is the index
    of their order in `ORDERS`. With the luminance g of each pixel, and its mean m over the image,

        brightness: x <- f x,    contrast: x <- m + f (x - m),    saturation: x <- g + f (x - g).

    Each keeps the form a x + b g + c of the original x and g, so that one pass applies all three.
    Values are rounded and clamped to 0..255 once, at the end; Pillow, in the official code, does so
    after each.
    """
    x = images.flatten(2).float()
    grey = constant((LUMINANCE if x.shape[1] == 3 else (1.0,),), x.dtype, x.device) @ x
    mean = grey.mean((1, 2))
    a, b, c = torch.ones_like(mean), torch.zeros_like(mean), torch.zeros_like(mean)
    for kinds in constant(ORDERS, torch.int64, x.device)[order].unbind(1):
        f = factors.gather(1, kinds[:, None])[:, 0]
        bright, contrast = kinds == 0, kinds == 1
        seen = a + b  # factor of the grey value
        c = torch.where(
            bright, f * c, torch.where(contrast, f * c + (1 - f) * (seen * mean + c), c)
        )
        b = torch.where(bright | contrast, f * b, f * b + (1 - f) * seen)
        a = f * a
    a, b, c = (each[:, None, None] for each in (a, b, c))
    changed = torch.addcmul((b * grey).add_(c), a, x)
    return changed.round_().clamp_(0, 255).to(images.dtype).view_as(images)
