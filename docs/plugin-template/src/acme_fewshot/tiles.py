"""Tiles: 4 x 4 black and white squares, drawn at random for each class; made here in no time.

An image has 16 x 16 pixels: the pattern of its class, moved around the edges by up to 3 pixels each
way, with every sixteenth pixel, on average, turned into its opposite.
"""

import numpy as np
import torch
from torch import Tensor

from bench.datasets.io.cache import DataDirs, cached
from bench.tasks.pool import Dataset, Pool

VERSION = b"1"
"""To be changed with what is drawn, so that no older images are taken from the cache."""
SPLITS = {"train": range(0, 40), "val": range(40, 60), "test": range(60, 80)}


def prepare(folders: DataDirs, *, images: int) -> Dataset:
    """80 classes, 40 / 20 / 20 in training, validation and test, each of so many ``images``."""
    return cached(folders.cache, "acme_tiles", VERSION + b"%d" % images, lambda: draw(images))


def draw(images: int) -> Dataset:
    """Return the data set, with its digest."""
    splits = {
        split: Pool.of({f"tile {number}": tiles(number, images) for number in numbers})
        for split, numbers in SPLITS.items()
    }
    return Dataset.of("acme_tiles", splits)


def tiles(number: int, images: int) -> Tensor:
    """Return the images of a class, uint8 [images, 1, 16, 16]: bits of a counter, the same everywhere."""
    bits = np.random.Philox(key=number)
    squares = np.unpackbits(np.array([bits.random_raw()]).astype("<u8").view("u1"))[:16]
    pattern = np.kron(squares.reshape(4, 4), np.ones((4, 4), np.uint8))
    found = []
    for _ in range(images):
        down, right = int(bits.random_raw()) % 4, int(bits.random_raw()) % 4
        turned = np.full(256, 255, np.uint8)
        for _ in range(4):  # the share of pixels that stay set is halved each time
            turned &= bits.random_raw(32).astype("<u8").view("u1")
        found.append(np.roll(pattern, (down, right), (0, 1)) ^ (turned & 1).reshape(16, 16))
    return torch.from_numpy(np.stack(found)[:, None] * np.uint8(255))
