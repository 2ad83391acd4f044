"""Conversion of images to the shape of another data set, for learners trained on that one."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from bench.datasets.io.photos import to_image
from bench.tasks.pool import Pool

Pixels = np.ndarray
"""One image, uint8 [C, H, W]."""


def resize_pool(pool: Pool, shape: tuple[int, int, int]) -> Pool:
    """Return the same classes with images uint8 [M, C, H, W] of ``shape`` (C, H, W), C of 1 or 3.

    Colour becomes grey by its luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), grey becomes colour
    by repetition. Height and width become those of ``shape``, regardless of the aspect ratio, by
    bilinear interpolation, antialiased when the image shrinks. Nothing is inverted: bright stays
    bright. Pillow does both in integer arithmetic, so that the pixels are the same on every
    machine. Images that have the shape are unchanged.
    """
    if tuple(pool.inputs.shape[1:]) == shape:
        return pool
    images = torch.empty(len(pool.inputs), *shape, dtype=torch.uint8)
    for image, place in zip(pool.inputs.numpy(), images.numpy(), strict=True):
        place[:] = resized(image, shape)
    return replace(pool, inputs=images)


def resized(image: Pixels, shape: tuple[int, int, int]) -> Pixels:
    """Return one image in that shape, or one that broadcasts to it along channels."""
    channels, height, width = shape
    drawn = to_image(image)
    if channels == 1:
        drawn = drawn.convert("L")
    pixels = np.asarray(drawn.resize((width, height), Image.Resampling.BILINEAR))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
