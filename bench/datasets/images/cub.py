"""CUB-200-2011: 11,788 photographs of 200 bird species, a fine-grained data set.

Wah, Branson, Welinder, Perona, Belongie 2011, "The Caltech-UCSD Birds-200-2011 dataset"; the class
split 100 / 50 / 50 is that of Chen et al. 2019 ("A closer look at few-shot classification"): in the
official order of the species, every other one, starting with the first, is for training, and every
other one of the rest for validation. So test species have close relatives among the training
species.

Images are uint8 [3, 84, 84]: the central square of a photograph, downscaled (`photos`). The code of
Chen et al. scales the whole photograph to 96 x 96, which changes its aspect ratio, and takes the
central 84 x 84; in training it takes random crops and changes colours. Neither uses the archive's
bounding boxes. Pretrained networks see the photographs themselves, from the archive.

No content digest is pinned, since the archive was not available. It is checked against what is
known about it: its classes, images and labels, and its MD5 sum. A different MD5 sum is only a
warning, since the same images may be packed in more than one way.
"""

import hashlib
import io
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import torch
from PIL import Image
from torch import Tensor

from bench.core.errors import UserError
from bench.datasets.io import photos
from bench.datasets.io.archives import ascii_message, from_archive
from bench.datasets.io.cache import DataDirs, cached
from bench.datasets.io.photos import parallel_map, photo_or_reason
from bench.datasets.io.tars import READ_ERRORS, members
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset, Original, Pool

log = logging.getLogger(__name__)

ARCHIVE = "CUB_200_2011.tgz"
MD5 = "97eceeb196236b17998738112f37df78"
CLASSES = 200
IMAGES = 11_788
SIDE = 84

LISTS = {f"CUB_200_2011/{name}.txt": name for name in ("images", "classes", "image_class_labels")}
MEMBER = re.compile(r"CUB_200_2011/images/(\w[^/]*/\w[^/]*\.jpg)")
# limits of a list, of a photograph, and of all other members together, such as attributes
LIST_BYTES, IMAGE_BYTES, OTHER_BYTES = 5_000_000, 5_000_000, 500_000_000


def prepare(folders: DataDirs, *, url: str, within: Literal["group"] | None = None) -> Dataset:
    """Return CUB-200-2011 from its official archive; see the module for the images.

    ``url`` is where the archive is downloaded from if neither folder has it as
    ``cub/CUB_200_2011.tgz``. Images that are in two splits are logged. With ``within="group"``, all
    species of an episode are of one `kind`, such as warblers.

    Raises:
        UserError: If the archive is missing and cannot be downloaded, is damaged, or does not have
            the official classes and images.
    """

    def build() -> Dataset:
        classes = from_archive(folders, "cub", ARCHIVE, [ARCHIVE], url, images_in)
        splits = {
            split: Pool.of({name: classes[name] for name in names})
            for split, names in split_names(list(classes)).items()
        }
        check(splits, expected_duplicates=None)
        return Dataset.of("cub", splits)

    recipe = repr((CLASSES, IMAGES, SIDE)).encode() + Path(photos.__file__).read_bytes()
    made = cached(folders.cache, "cub", recipe, build)
    seen = originals(folders, made.splits)
    dataset = replace(made, expected_duplicates=None, original=seen).with_groups(kind)
    return dataset.within_groups() if within else dataset


def kind(name: str) -> str:
    """Return the kind of bird of a species: the last word of its name, mostly a genus or two."""
    return name.rpartition("_")[2]


def originals(folders: DataDirs, pools: Mapping[str, Pool]) -> Original:
    """Return a function that returns the photograph of a split and index, from the archive.

    The files of the split that was last asked for are held in memory.
    """
    lock = threading.Lock()
    held: dict[str, list[bytes]] = {}

    def original(split: str, index: int) -> Image.Image:
        with lock:  # images are asked for by several threads
            if split not in held:
                held.clear()
                held[split] = files_of(folders, pools[split])
        image = io.BytesIO(held[split][index])
        if (photos.photo(image, SIDE, 3, ["JPEG"]) != pools[split].inputs[index].numpy()).any():
            raise UserError(f"{ARCHIVE} is another than cub was prepared from: bring that back")
        return photos.decoded(image, photos.ENCODED_SIDE, "RGB", ["JPEG"])

    return original


def files_of(folders: DataDirs, pool: Pool) -> list[bytes]:
    """Return the image files of a pool from the archive, in its order; raise UserError."""
    path = folders.find(f"cub/{ARCHIVE}")
    if not path:
        raise UserError(
            f"Pretrained networks see the original photographs: put {ARCHIVE} into "
            f"{folders.archives / 'cub'}"
        )

    def most(name: str) -> int | None:
        match = MEMBER.fullmatch(name)
        return IMAGE_BYTES if match and match[1].split("/")[0] in pool.names else None

    try:
        with path.open("rb") as file:
            found = dict(members(file, most, OTHER_BYTES + IMAGES * IMAGE_BYTES))
    except READ_ERRORS as error:
        raise UserError(f"{path} is damaged ({ascii_message(error)}): bring it back") from None
    if len(found) != len(pool.inputs):
        raise UserError(f"{path} is another than cub was prepared from: bring that back")
    return [found[name] for name in sorted(found)]


def split_names(names: list[str]) -> dict[str, list[str]]:
    """Return the classes of each split, from all classes in their official order."""
    return {"train": names[::2], "val": names[1::4], "test": names[3::4]}


def images_in(file: BinaryIO, source: str, advice: str) -> dict[str, Tensor]:
    """Return all classes by name, in their official order, each uint8 [n, 3, 84, 84].

    The images of a class are in the order of file names. Raises UserError; ``source`` and
    ``advice`` are as in `from_archive`.
    """
    try:
        md5 = partial(hashlib.md5, usedforsecurity=False)
        digest = hashlib.file_digest(file, md5).hexdigest()  # type: ignore[arg-type]
        file.seek(0)
        classes = arrange(*read_archive(file))
    except READ_ERRORS as error:
        raise UserError(
            f"{source} is damaged or not CUB-200-2011 ({ascii_message(error)}); {advice}"
        ) from None
    if digest != MD5:
        log.warning(
            "%s has the classes of CUB-200-2011 and as many images, but its MD5 sum is %s and not %s, "
            "that of the official file; compare only rows of the same data digest",
            source,
            digest,
            MD5,
        )
    return classes


def read_archive(file: BinaryIO) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the photographs of an archive by class and file name, and its lists.

    Raises one of READ_ERRORS.
    """
    lists: dict[str, str] = {}

    def most(name: str) -> int | None:
        if name in LISTS:
            return LIST_BYTES
        return IMAGE_BYTES if MEMBER.fullmatch(name) else None

    def photographs() -> Iterator[tuple[str, bytes]]:
        for name, content in members(file, most, OTHER_BYTES):
            if match := MEMBER.fullmatch(name):
                yield match[1], content
            else:
                lists[LISTS[name]] = content.decode()

    def scaled(photograph: tuple[str, bytes]) -> tuple[str, Tensor]:
        name, content = photograph
        image = photo_or_reason(io.BytesIO(content), SIDE, 3, ["JPEG"])
        if isinstance(image, str):
            raise ValueError(f"its image {name} cannot be read: {image}")
        return name, torch.from_numpy(image.copy())

    images: dict[str, Tensor] = {}
    for name, image in parallel_map(scaled, photographs(), "Preparing cub", IMAGES):
        images[name] = image
        if len(images) > IMAGES:
            raise ValueError(f"it has more than {IMAGES} images")
    return images, lists


def arrange(images: dict[str, Tensor], lists: dict[str, str]) -> dict[str, Tensor]:
    """Return all classes by name, in their official order, images in order of file names.

    Removes the images from ``images``; both arguments are as returned by `read_archive`. Raises
    ValueError.
    """
    names = numbered(lists, "classes", CLASSES)
    files = numbered(lists, "images", IMAGES)
    labels = numbered(lists, "image_class_labels", IMAGES)
    for number, name in enumerate(names, 1):
        if not re.fullmatch(rf"{number:03}\.\w[^/]*", name):
            raise ValueError(f"its class {number} is named {name!r}")
    for file, label in zip(files, labels, strict=True):
        if not label.isdecimal() or not 1 <= int(label) <= CLASSES:
            raise ValueError(f"its image {file} has the label {label}")
        if file.split("/")[0] != names[int(label) - 1]:
            raise ValueError(f"its image {file} is not in the folder of its label {label}")
    if lacking := set(files) - set(images):
        raise ValueError(f"it has no image {min(lacking)}")
    if unlisted := set(images) - set(files):
        raise ValueError(f"its image {min(unlisted)} is not in images.txt")
    each: dict[str, list[Tensor]] = {name: [] for name in names}
    for file in sorted(files):
        each[file.split("/")[0]].append(images.pop(file))
    if empty := [name for name in names if not each[name]]:
        raise ValueError(f"it has no images of {empty[0]}")
    return {name: torch.stack(those) for name, those in each.items()}


def numbered(lists: dict[str, str], name: str, count: int) -> list[str]:
    """Return the values that a list has for the numbers 1 to ``count``; raise ValueError."""
    lines = [line.partition(" ") for line in lists.get(name, "").splitlines()]
    if [number for number, _, _ in lines] != [str(n) for n in range(1, count + 1)]:
        raise ValueError(f"its {name}.txt has not the numbers 1 to {count}")
    return [value for _, _, value in lines]
