"""Image completion: a task is one image, its examples are pixels, from place to colour.

As in Garnelo et al. 2018 ("Conditional Neural Processes", arXiv 1807.01613), on the images of another
data set, whose classes keep the splits apart. The place of a pixel, in [-1, 1]^2, comes with sines
and cosines of one to four half periods, without which a small network of ReLU units is slow to draw
edges.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from bench.config.compose import composed
from bench.config.schema import Component
from bench.core.errors import UserError
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset, Pool
from bench.tasks.regression.domain import Regression

IMAGES = {"train": 2_000, "val": 200, "test": 1_000}
"""Largest number of images of a split, evenly spread over those there are."""
HALF_PERIODS = (1, 2, 4)


def prepare(
    folders: DataDirs, *, images: Literal["glyphs", "glyphs_warped", "omniglot", "cifar_fs"]
) -> Dataset:
    """Return the pixels of images of another data set; raise UserError if that cannot be had."""
    code = Component.model_validate(composed(f"dataset={images}")["dataset"])
    source: Dataset = code.resolve()(folders, **code.options)
    if not source.has_images:
        raise UserError(f"dataset.images={images} has none; choose a data set of images")
    splits = {split: pixels(split, source.splits[split]) for split in IMAGES}
    return Dataset.of(
        f"completion-{images}",
        splits,
        domain=Regression(probed_shots=(20, 50, 100, 200)),
        examples="pixels",
        compared="tasks",
        expected_duplicates=None,
    )


def pixels(split: str, pool: Pool) -> Pool:
    """Return a task for each image: inputs [M, 14] of places, targets [M, C] of colours in 0..1."""
    count = min(IMAGES[split], len(pool.inputs))
    chosen = pool.inputs[torch.arange(count) * len(pool.inputs) // count]
    _, channels, height, width = chosen.shape
    return Pool(
        places(height, width).repeat(count, 1),
        torch.arange(count + 1) * height * width,
        tuple(f"{split} {number}" for number in range(count)),
        targets=chosen.permute(0, 2, 3, 1).reshape(-1, channels).float() / 255,
    )


def places(height: int, width: int) -> Tensor:
    """Return the places of pixels with their waves, float32 [H * W, 14]."""
    ends = (torch.linspace(-1, 1, size, dtype=torch.float64) for size in (height, width))
    place = torch.cartesian_prod(*ends)
    angles = [math.pi / 2 * number * place for number in HALF_PERIODS]
    waves = [wave for angle in angles for wave in (angle.sin(), angle.cos())]
    return torch.cat([place, *waves], 1).float()
