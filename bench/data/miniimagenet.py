"""miniImageNet: 100 classes of 600 photographs of ImageNet, 84 x 84 pixels.

Vinyals et al. 2016 (Matching Networks) chose the classes, Ravi and Larochelle 2017 the images and the
split 64 / 16 / 20. Of the versions in use, which differ in how photographs were made small, this is the
one that learn2learn downloads: three pickles, made by the code of Ren et al. 2018. Images are uint8
[3, 84, 84], red, green, blue; colours are not normalised by mean and deviation.

The files are checked for what is known of them, 600 images in each of so many classes. No content
digest is pinned, since none was at hand; the rows of a run carry that of the images it was given.
"""

from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import torch

from bench.data.archives import from_archive, plain
from bench.data.cache import Folders, cached
from bench.data.guard import check
from bench.data.pickles import Type, is_array, read_mapped
from bench.data.pool import Dataset, Pool
from bench.mistake import Mistake

FOLDER = "miniimagenet"
FILES = {
    "train": "mini-imagenet-cache-train.pkl",
    "val": "mini-imagenet-cache-validation.pkl",
    "test": "mini-imagenet-cache-test.pkl",
}
CLASSES = {"train": 64, "val": 16, "test": 20}
IMAGES = 600
SIDE = 84
# What a file may have, and for each image beside: its number in the list of its class.
INSTRUCTIONS, INSTRUCTIONS_PER_IMAGE = 2_000, 2


def prepare(folders: Folders, *, url: str) -> Dataset:
    """miniImageNet from three pickles; see the module for what the images are.

    ``url`` is where those are downloaded from that neither folder has in ``miniimagenet/``. What was
    prepared is kept, and the pickles are not looked at again.

    Raises Mistake when a file is missing and cannot be downloaded, is damaged, or does not hold so
    many images and classes; images that are in two splits are logged.
    """

    def build() -> Dataset:
        splits = {split: pool_of(folders, url, split) for split in FILES}
        check(splits, known_shared=None)
        return Dataset.of("miniimagenet", splits)

    recipe = repr((FILES, CLASSES, IMAGES)).encode()
    return replace(cached(folders.cache, "miniimagenet", recipe, build), known_shared=None)


def pool_of(folders: Folders, url: str, split: str) -> Pool:
    """The images of one split from its file, found or downloaded."""

    def read(file: BinaryIO, source: str, advice: str) -> Pool:
        count = CLASSES[split]
        try:
            most = INSTRUCTIONS + count * IMAGES * INSTRUCTIONS_PER_IMAGE
            return arrange(read_mapped(file, most), count)
        except ValueError as error:
            raise Mistake(
                f"{source} is damaged or not the {split} split of miniImageNet ({plain(error)}); {advice}"
            ) from None

    address = f"{url.rstrip('/')}/{FILES[split]}"
    return from_archive(folders, FOLDER, FILES[split], list(FILES.values()), address, read)


def arrange(content: Any, count: int) -> Pool:
    """The pool of so many classes, by name, each with its images in their order in the file.

    ``content`` has ``image_data``, uint8 [n, 84, 84, 3], and ``class_dict``, for each name the numbers
    of its images. Raises ValueError when it has not. The images are copied once, class by class.
    """
    images, classes = (
        content.get(key) if isinstance(content, dict) else None
        for key in ("image_data", "class_dict")
    )
    total = count * IMAGES
    if not is_array(images, Type.UINT8, (total, SIDE, SIDE, 3)):
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
    """The numbers of a class's images in ascending order, int64 [600]; raises ValueError."""
    if not isinstance(listed, list) or any(type(number) is not int for number in listed):
        raise ValueError(f"the images of {name} are not a list of numbers")
    if len(listed) != IMAGES:
        raise ValueError(f"it has {len(listed)} images of {name} instead of {IMAGES}")
    return np.sort(np.array(listed, np.int64))
