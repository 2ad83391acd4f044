"""miniImageNet: 100 classes of 600 photographs from ImageNet, 84 x 84 pixels.

Vinyals et al. 2016 (Matching Networks) chose the classes, Ravi and Larochelle 2017 the images and
the split 64 / 16 / 20. Of the versions in use, which differ in how photographs were downscaled,
this is the one that learn2learn downloads: three pickles, created by the code of Ren et al. 2018.
Images are uint8 [3, 84, 84], RGB; colours are not normalised by mean and standard deviation.

The files are checked against what is known about them: the number of classes, with 600 images each.
No content digest is pinned, since none was available; the rows of a run record that of the images
it was given.
"""

from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import torch

from bench.core.errors import UserError
from bench.datasets.io.archives import ascii_message, from_archive
from bench.datasets.io.cache import DataDirs, cached
from bench.datasets.io.pickles import is_array, read_mapped
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset, Pool

FOLDER = "miniimagenet"
FILES = {
    "train": "mini-imagenet-cache-train.pkl",
    "val": "mini-imagenet-cache-validation.pkl",
    "test": "mini-imagenet-cache-test.pkl",
}
CLASSES = {"train": 64, "val": 16, "test": 20}
IMAGES = 600
SIDE = 84
# Limits of a file, and additionally per image, for its number in the list of its class.
INSTRUCTIONS, INSTRUCTIONS_PER_IMAGE = 2_000, 2


def prepare(folders: DataDirs, *, url: str) -> Dataset:
    """Return miniImageNet from three pickles; see the module for the images.

    ``url`` is where files are downloaded from that neither folder has in ``miniimagenet/``. The
    prepared data set is kept, and the pickles are not read again. Images that are in two splits are
    logged.

    Raises:
        UserError: If a file is missing and cannot be downloaded, is damaged, or does not have the
            expected numbers of images and classes.
    """

    def build() -> Dataset:
        splits = {split: pool_of(folders, url, split) for split in FILES}
        check(splits, expected_duplicates=None)
        return Dataset.of("miniimagenet", splits)

    recipe = repr((FILES, CLASSES, IMAGES)).encode()
    return replace(cached(folders.cache, "miniimagenet", recipe, build), expected_duplicates=None)


def pool_of(folders: DataDirs, url: str, split: str) -> Pool:
    """Return the images of one split from its file, found or downloaded."""

    def read(file: BinaryIO, source: str, advice: str) -> Pool:
        count = CLASSES[split]
        try:
            most = INSTRUCTIONS + count * IMAGES * INSTRUCTIONS_PER_IMAGE
            return arrange(read_mapped(file, most), count)
        except ValueError as error:
            raise UserError(
                f"{source} is damaged or not the {split} split of miniImageNet "
                f"({ascii_message(error)}); {advice}"
            ) from None

    address = f"{url.rstrip('/')}/{FILES[split]}"
    return from_archive(folders, FOLDER, FILES[split], list(FILES.values()), address, read)


def arrange(content: Any, count: int) -> Pool:
    """Return the pool of ``count`` classes, by name, with images in their order in the file.

    ``content`` has ``image_data``, uint8 [n, 84, 84, 3], and ``class_dict``, which maps each name
    to the numbers of its images. Raises ValueError if it does not. The images are copied once,
    class by class.
    """
    images, classes = (
        content.get(key) if isinstance(content, dict) else None
        for key in ("image_data", "class_dict")
    )
    total = count * IMAGES
    if not is_array(images, "u1", (total, SIDE, SIDE, 3)):
        raise ValueError(f"its image_data are not {total} images of {SIDE} x {SIDE} x 3 bytes")
    if not isinstance(classes, dict) or len(classes) != count:
        raise ValueError(f"its class_dict does not have {count} classes")
    names = tuple(sorted(classes))
    rows = [numbers(classes[name], name) for name in names]
    if not np.array_equal(np.sort(np.concatenate(rows)), np.arange(total)):
        raise ValueError("its class_dict does not give each image to one class")

    pixels = images.values()
    pool = torch.empty(total, 3, SIDE, SIDE, dtype=torch.uint8)
    for own, place in zip(rows, pool.split(IMAGES), strict=True):
        place.copy_(torch.from_numpy(pixels[own]).permute(0, 3, 1, 2))
    return Pool(pool, torch.arange(count + 1) * IMAGES, names)


def numbers(listed: Any, name: str) -> np.ndarray:
    """Return the numbers of a class's images, ascending, int64 [600]; raise ValueError."""
    if not isinstance(listed, list) or any(type(number) is not int for number in listed):
        raise ValueError(f"the images of {name} are not a list of numbers")
    if len(listed) != IMAGES:
        raise ValueError(f"it has {len(listed)} images of {name} instead of {IMAGES}")
    return np.sort(np.array(listed, np.int64))
