"""Glyphs with a random warp of each image: the default data set.

The letters of `bench.datasets.images.glyphs` without their accented forms, uint8 [1, 28, 28]. A
class has one image of each typeface, up to 16, so that support and query images always have
different typefaces; if an earlier letter has an identical drawing, the typeface is left out. Each
image is rotated, scaled, slanted, shifted and bent at random, so that pixels alone carry little
information: it helps to have learned on other letters which changes do not matter. It is **not
Omniglot**.

The changes of an image depend only on its letter and typeface, and are computed from sums, products
and quotients, which every machine rounds alike.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core.philox import key_of, philox
from bench.datasets.images import glyphs
from bench.datasets.io.cache import DataDirs, cached
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset, Pool

DIGEST = "192d1290936d7c05f00717d61524530bf0632455f94ccc4c779259879b21b3c1"
"""Content digest behind the reference results, as in `bench.datasets.images.glyphs`."""

FINE = 2
"""Factor by which letters are drawn larger than their final size."""
TURN = 0.1317
"""Tangent of half the maximum angle, 15 degrees to either side."""
SCALES = (0.8, 1.1)
"""Minimum and maximum scale of width and height, which are drawn independently."""
SLANT = 0.2
"""Maximum horizontal shift in pixels per pixel of height."""
SHIFT = 2.0
"""Maximum shift in pixels, in each direction."""
BEND = 1.0
"""Maximum displacement of a grid point in pixels, in each direction."""
NET = 4
"""Grid points per side; between them, displacements are interpolated smoothly."""


def prepare(folders: DataDirs) -> Dataset:
    """Return the warped letters, drawn from the typefaces of the installed matplotlib.

    Raises UserError if matplotlib was installed without its typefaces. Logs a warning if the pixels
    differ from those of the reference results, as they may with another FreeType.
    """
    paths = glyphs.typefaces()
    recipe = glyphs.recipe(paths, __file__)
    dataset = cached(folders.cache, "glyphs_warped", recipe, lambda: build(paths))
    glyphs.check_pin(dataset, DIGEST)
    return replace(dataset, inverted=True).with_groups(glyphs.family_of_name)


def build(paths: list[Path]) -> Dataset:
    """Draw the letters, merge those that look alike, warp their images, and split the letters."""
    letters, images = glyphs.draw(paths, FINE * glyphs.SIDE, FINE * glyphs.EM, accents=False)
    doubles = glyphs.look_alikes(letters, images)
    pools: dict[str, dict[str, torch.Tensor]] = {"train": {}, "val": {}, "test": {}}
    seen: set[bytes] = set()
    for letter, faces in zip(letters, images, strict=True):
        if letter in doubles:
            continue
        # before warping, since the leak guard cannot recognise warped copies of one drawing
        drawn = glyphs.first_drawn(faces, seen)
        if len(drawn) < glyphs.MIN_IMAGES:
            continue
        split = glyphs.split_of(glyphs.family_of(letter))
        warped = warp(faces[drawn], changes(letter, drawn))
        pools[split][glyphs.name_of(letter)] = torch.from_numpy(warped)[:, None]
    splits = {split: Pool.of(classes) for split, classes in pools.items()}
    check(splits)
    return Dataset.of("glyphs_warped", splits)


def changes(letter: str, faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return numbers from -1 to 1 that define the warps of a letter: [typefaces, 6 + 2 NET^2]."""
    count = 6 + 2 * NET * NET
    face, block = torch.from_numpy(faces)[:, None], torch.arange(-(-count // 4))
    code = torch.full_like(face, ord(letter))
    words = philox(key_of("warped glyphs"), (code, face, block, torch.zeros_like(face)))
    return words.flatten(1)[:, :count].numpy() / 2.0**31 - 1


def warp(images: NDArray[np.uint8], change: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Warp images [n, FINE s, FINE s] by numbers from `changes`; return uint8 [n, s, s]."""
    side = images.shape[-1]
    turn, wide, high, slant, right, down = change[:, :6, None, None].swapaxes(0, 1)
    net = FINE * BEND * change[:, 6:].reshape(-1, 2, NET, NET)
    bent_x, bent_y = between(between(net, side).swapaxes(2, 3), side).swapaxes(2, 3).swapaxes(0, 1)

    # source position of each pixel, in pixels from the centre
    places = np.arange(side) - (side - 1) / 2
    x = places[None, None, :] + bent_x - FINE * SHIFT * right
    y = places[None, :, None] + bent_y - FINE * SHIFT * down
    half = TURN * turn
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    low, top = SCALES
    wide, high = (low + (top - low) * (1 + each) / 2 for each in (wide, high))
    from_x = (cosine * x + sine * y) / wide + SLANT * slant * y
    from_y = (cosine * y - sine * x) / high
    fine = sampled(images, from_x + (side - 1) / 2, from_y + (side - 1) / 2)
    parts = fine.reshape(len(images), side // FINE, FINE, side // FINE, FINE)
    result: NDArray[np.uint8] = np.rint(parts.mean((2, 4))).astype(np.uint8)
    return result


def between(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return equidistant values [..., n], interpolated smoothly to [..., side]."""
    place = np.arange(side) * (values.shape[-1] - 1) / (side - 1)
    before = np.minimum(place.astype(np.int64), values.shape[-1] - 2)
    share = place - before
    share = share * share * (3 - 2 * share)
    result: NDArray[np.float64] = (
        values[..., before] * (1 - share) + values[..., before + 1] * share
    )
    return result


def sampled(
    images: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the ink of images [n, s, s] at positions [n, s, s], bilinear; zero outside."""
    side = images.shape[-1]
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2))).astype(np.float64)
    x, y = (np.clip(place + 1, 0, side + 1) for place in (x, y))
    column, row = x.astype(np.int64), y.astype(np.int64)
    right, down = x - column, y - row
    image = np.arange(len(images))[:, None, None]
    upper = padded[image, row, column] * (1 - right) + padded[image, row, column + 1] * right
    lower = (
        padded[image, row + 1, column] * (1 - right) + padded[image, row + 1, column + 1] * right
    )
    return upper * (1 - down) + lower * down
