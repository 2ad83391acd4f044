"""tieredImageNet: 608 classes of ImageNet, 779,165 photographs of 84 x 84 pixels, split by categories.

Ren et al. 2018, "Meta-learning for semi-supervised few-shot classification": the classes belong to 34
categories higher up in ImageNet, 20 / 6 / 8 of them in train, val and test, which makes tested classes
less like trained ones than those of `miniimagenet`. These are the pickles of its authors, which
learn2learn downloads: for each split a list of PNG files and the number of each image's class. Images
are uint8 [3, 84, 84], red, green, blue; colours are not normalised by mean and deviation.

The files are checked for what is known of them, the numbers of classes and images. No content digest is
pinned, since none was at hand; the rows of a run carry that of the images it was given. Classes go by
their numbers, such as ``train/017``: ImageNet has two of some names, such as crane.

The images are kept in a file of 16.5 GB that is mapped into memory, see `pixels`.
"""

import io
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from bench.data import pixels
from bench.data.archives import Reader, from_archive, plain
from bench.data.cache import Folders, prepared
from bench.data.guard import check
from bench.data.pickles import Array, Type, read_mapped
from bench.data.pool import Dataset, Pool
from bench.files import write_whole
from bench.mistake import Mistake

log = logging.getLogger(__name__)

NAME = "tieredimagenet"
CLASSES = {"train": 351, "val": 97, "test": 160}
IMAGES = {"train": 448_695, "val": 124_261, "test": 206_209}
SIDE = 84
SHAPE = (3, SIDE, SIDE)
# What a file may have; and one of images for each of them: Python 2 and 3 take about 25 for an array.
INSTRUCTIONS, INSTRUCTIONS_PER_IMAGE = 10_000, 40
# as long as the pixels and a little more, for those that do not compress
MOST_BYTES = 30_000

Sizes = Mapping[str, list[int]]
"""By split, the images of each class."""


def prepare(folders: Folders, *, url: str) -> Dataset:
    """tieredImageNet from six pickles; see the module for what the images are.

    ``url`` is where those are downloaded from that neither folder has in ``tieredimagenet/``. What was
    prepared is kept, and the pickles are not looked at again.

    Raises Mistake when a file is missing and cannot be downloaded, is damaged, or does not hold so many
    images and classes, and when the disk lacks the room; images that are in two splits are logged.
    """
    recipe = repr((CLASSES, IMAGES, SHAPE)).encode()

    def make(path: Path | None) -> Dataset:
        if path is None:
            with tempfile.TemporaryDirectory() as folder:  # what is mapped outlives its name
                return make(Path(folder) / f"{NAME}.pixels")
        return build(folders, url, path)

    dataset = prepared(folders.cache, NAME, recipe, ".pixels", read, make)
    return replace(dataset, known_shared=None)


def build(folders: Folders, url: str, path: Path) -> Dataset:
    """Make the images in a file, from where an earlier attempt left it, class by class."""
    sources: list[Source] = []
    sizes = {}
    for split in CLASSES:
        labels = from_file(folders, url, f"{split}_labels.pkl", labels_in(split))
        images = from_file(folders, url, f"{split}_images_png.pkl", images_in(split))
        sources += [images[row] for row in np.argsort(labels, kind="stable")]
        sizes[split] = np.bincount(labels).tolist()
    facts = pixels.fill(path, NAME, sources, SHAPE, decoded)
    splits = splits_of(path, sizes)
    check(splits, known_shared=None)
    dataset = Dataset.of(NAME, splits)
    write_whole(sizes_file(path), json.dumps(sizes))
    facts.digest = dataset.digest
    pixels.save(path, facts)
    return dataset


def read(path: Path) -> Dataset | None:
    """The data set from a file that was made before, if it is finished and whole."""
    digest = pixels.made(path).digest
    if digest is None:
        return None
    try:
        splits = splits_of(path, json.loads(sizes_file(path).read_text()))
        if pixels.whole(path, splits, digest):
            return Dataset(NAME, digest, splits)
    except Exception as error:  # as of sizes that are no lists of numbers
        log.debug("%s: %r", path, error)
    log.warning("%s is damaged and is prepared anew", path)
    return None


def sizes_file(path: Path) -> Path:
    """The file with the images of each class, beside that with all images."""
    return path.with_suffix(".sizes")


def splits_of(path: Path, sizes: Sizes) -> dict[str, Pool]:
    """The pools of images in a file that holds them all; raises OSError or ValueError if it does not."""
    counts = {split: sum(sizes[split]) for split in CLASSES}
    parts = pixels.mapped(path, sum(counts.values()), SHAPE).split(list(counts.values()))
    return {
        split: Pool(
            part,
            torch.tensor([0, *sizes[split]]).cumsum(0),
            tuple(f"{split}/{number:03}" for number in range(len(sizes[split]))),
        )
        for part, split in zip(parts, CLASSES, strict=True)
    }


def from_file(folders: Folders, url: str, name: str, read: Reader[Any]) -> Any:
    """What is read from one of the six files, found or downloaded."""
    every = [f"{s}_{what}.pkl" for s in CLASSES for what in ("images_png", "labels")]
    address = f"{url.rstrip('/')}/tiered-imagenet-{name}"
    return from_archive(folders, NAME, name, every, address, read)


@dataclass(frozen=True, slots=True)
class Source:
    """One image as a PNG file, and what is said where it is damaged."""

    png: Array
    complaint: str


def labels_in(split: str) -> Reader[np.ndarray]:
    """Reads the class of each image, numbers from 0 on, int [n]."""

    def read(file: BinaryIO, source: str, advice: str) -> np.ndarray:
        try:
            content = read_mapped(file, INSTRUCTIONS)
            labels = content.get("label_specific") if isinstance(content, dict) else None
            if not isinstance(labels, Array) or labels.type is Type.UINT8:
                raise ValueError("its label_specific are no array of numbers")
            if labels.shape != (IMAGES[split],):
                raise ValueError(f"its label_specific are not those of {IMAGES[split]:,} images")
            values = labels.values()
            if not np.array_equal(np.unique(values), np.arange(CLASSES[split])):
                raise ValueError(
                    f"its label_specific are not the numbers of {CLASSES[split]} classes"
                )
        except ValueError as error:
            raise Mistake(f"{complaint(source, split)} ({plain(error)}); {advice}") from None
        return values

    return read


def images_in(split: str) -> Reader[list[Source]]:
    """Reads the images as they are in the file, which they are looked up in when they are decoded."""

    def read(file: BinaryIO, source: str, advice: str) -> list[Source]:
        try:
            most = INSTRUCTIONS + IMAGES[split] * INSTRUCTIONS_PER_IMAGE
            content = read_mapped(file, most)
            if not isinstance(content, list) or len(content) != IMAGES[split]:
                raise ValueError(f"it is no list of {IMAGES[split]:,} images")
            if not all(isinstance(each, Array) and each.type is Type.UINT8 for each in content):
                raise ValueError("its images are not arrays of bytes")
        except ValueError as error:
            raise Mistake(f"{complaint(source, split)} ({plain(error)}); {advice}") from None
        damaged = f"{complaint(source, split)} (an image cannot be decoded); {advice}"
        return [Source(png, damaged) for png in content]

    return read


def complaint(source: str, split: str) -> str:
    return f"{source} is damaged or not of the {split} split of tieredImageNet"


def decoded(source: Source) -> np.ndarray:
    """One image, uint8 [3, 84, 84]; raises Mistake."""
    try:
        content = source.png.values().tobytes()
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has {len(content)} bytes")
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.mode != "RGB" or image.size != (SIDE, SIDE):
                raise ValueError(f"it is {image.mode} of {image.size} pixels")
            return np.asarray(image).transpose(2, 0, 1)
    except Exception as error:  # Pillow raises whatever the bytes lead it to
        log.debug("%r", error)
        raise Mistake(source.complaint) from None
