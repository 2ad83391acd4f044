"""tieredImageNet: 608 classes of ImageNet, 779,165 photographs, split by categories.

Ren et al. 2018, "Meta-learning for semi-supervised few-shot classification": the classes belong to
34 higher-level categories of ImageNet, 20 / 6 / 8 of them in train, val and test, which makes test
classes less similar to training classes than those of `miniimagenet`. The files are the pickles of
its authors, which learn2learn downloads: for each split a list of PNG files and the number of each
image's class. Images are uint8 [3, 84, 84], RGB; colours are not normalised by mean and standard
deviation.

The files are checked against what is known about them, the numbers of classes and images. No
content digest is pinned, since none was available; the rows of a run record that of the images it
was given. Classes are named by their numbers, such as ``train/017``: ImageNet has two classes of
some names, such as crane.

The images are kept in a memory-mapped file of 16.5 GB, see `memmap`.
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

from bench.core.atomic import atomic_write
from bench.core.errors import UserError
from bench.datasets.io import memmap
from bench.datasets.io.archives import Reader, ascii_message, from_archive
from bench.datasets.io.cache import DataDirs, prepared
from bench.datasets.io.pickles import Array, read_mapped
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset, Pool

log = logging.getLogger(__name__)

NAME = "tieredimagenet"
CLASSES = {"train": 351, "val": 97, "test": 160}
IMAGES = {"train": 448_695, "val": 124_261, "test": 206_209}
SIDE = 84
SHAPE = (3, SIDE, SIDE)
# Limits of a file, and additionally per image: Python 2 and 3 take about 25 for an array.
INSTRUCTIONS, INSTRUCTIONS_PER_IMAGE = 10_000, 40
# the size of the pixels and a little more, for images that do not compress
MOST_BYTES = 30_000

Sizes = Mapping[str, list[int]]
"""Number of images of each class, by split."""


def prepare(folders: DataDirs, *, url: str) -> Dataset:
    """Return tieredImageNet from six pickles; see the module for the images.

    ``url`` is where files are downloaded from that neither folder has in ``tieredimagenet/``. The
    prepared data set is kept, and the pickles are not read again. Images that are in two splits are
    logged.

    Raises:
        UserError: If a file is missing and cannot be downloaded, is damaged, or does not have the
            expected numbers of images and classes, or if the disk is too full.
    """
    recipe = repr((CLASSES, IMAGES, SHAPE)).encode()

    def make(path: Path | None) -> Dataset:
        if path is None:
            with tempfile.TemporaryDirectory() as folder:  # a mapped file outlives its name
                return make(Path(folder) / f"{NAME}.pixels")
        return build(folders, url, path)

    dataset = prepared(folders.cache, NAME, recipe, ".pixels", read, make)
    return replace(dataset, expected_duplicates=None)


def build(folders: DataDirs, url: str, path: Path) -> Dataset:
    """Build the file of images class by class, resuming an earlier attempt."""
    sources: list[Source] = []
    sizes = {}
    for split in CLASSES:
        labels = from_file(folders, url, f"{split}_labels.pkl", labels_in(split))
        images = from_file(folders, url, f"{split}_images_png.pkl", images_in(split))
        sources += [images[row] for row in np.argsort(labels, kind="stable")]
        sizes[split] = np.bincount(labels).tolist()
    facts = memmap.build(path, NAME, sources, SHAPE, decoded)
    splits = splits_of(path, sizes)
    check(splits, expected_duplicates=None)
    dataset = Dataset.of(NAME, splits)
    atomic_write(sizes_file(path), json.dumps(sizes))
    facts.digest = dataset.digest
    memmap.save(path, facts)
    return dataset


def read(path: Path) -> Dataset | None:
    """Return the data set from a file that was built before, if it is complete and intact."""
    digest = memmap.load_state(path).digest
    if digest is None:
        return None
    try:
        splits = splits_of(path, json.loads(sizes_file(path).read_text()))
        if memmap.is_intact(path, splits, digest):
            return Dataset(NAME, digest, splits)
    except Exception as error:  # e.g. sizes that are not lists of numbers
        log.debug("%s: %r", path, error)
    log.warning("%s is damaged and is prepared anew", path)
    return None


def sizes_file(path: Path) -> Path:
    """Return the path of the class sizes, next to the file of all images."""
    return path.with_suffix(".sizes")


def splits_of(path: Path, sizes: Sizes) -> dict[str, Pool]:
    """Return the pools of a file of all images; raise OSError or ValueError if it has fewer."""
    counts = {split: sum(sizes[split]) for split in CLASSES}
    parts = memmap.open_memmap(path, sum(counts.values()), SHAPE).split(list(counts.values()))
    return {
        split: Pool(
            part,
            torch.tensor([0, *sizes[split]]).cumsum(0),
            tuple(f"{split}/{number:03}" for number in range(len(sizes[split]))),
        )
        for part, split in zip(parts, CLASSES, strict=True)
    }


def from_file(folders: DataDirs, url: str, name: str, read: Reader[Any]) -> Any:
    """Return the content of one of the six files, found or downloaded."""
    every = [f"{s}_{what}.pkl" for s in CLASSES for what in ("images_png", "labels")]
    address = f"{url.rstrip('/')}/tiered-imagenet-{name}"
    return from_archive(folders, NAME, name, every, address, read)


@dataclass(frozen=True, slots=True)
class Source:
    """One image as a PNG file, and the message if it is damaged."""

    png: Array
    complaint: str


def labels_in(split: str) -> Reader[np.ndarray]:
    """Return a reader of the class of each image, numbers starting at 0, int [n]."""

    def read(file: BinaryIO, source: str, advice: str) -> np.ndarray:
        try:
            content = read_mapped(file, INSTRUCTIONS)
            labels = content.get("label_specific") if isinstance(content, dict) else None
            if not isinstance(labels, Array) or labels.dtype == "u1":
                raise ValueError("its label_specific are not an array of numbers")
            if labels.shape != (IMAGES[split],):
                raise ValueError(f"its label_specific are not those of {IMAGES[split]:,} images")
            values = labels.values()
            if not np.array_equal(np.unique(values), np.arange(CLASSES[split])):
                raise ValueError(
                    f"its label_specific are not the numbers of {CLASSES[split]} classes"
                )
        except ValueError as error:
            raise UserError(
                f"{complaint(source, split)} ({ascii_message(error)}); {advice}"
            ) from None
        return values

    return read


def images_in(split: str) -> Reader[list[Source]]:
    """Return a reader of the encoded images, which stay in the file until they are decoded."""

    def read(file: BinaryIO, source: str, advice: str) -> list[Source]:
        try:
            most = INSTRUCTIONS + IMAGES[split] * INSTRUCTIONS_PER_IMAGE
            content = read_mapped(file, most)
            if not isinstance(content, list) or len(content) != IMAGES[split]:
                raise ValueError(f"it is not a list of {IMAGES[split]:,} images")
            if not all(isinstance(each, Array) and each.dtype == "u1" for each in content):
                raise ValueError("its images are not arrays of bytes")
        except ValueError as error:
            raise UserError(
                f"{complaint(source, split)} ({ascii_message(error)}); {advice}"
            ) from None
        damaged = f"{complaint(source, split)} (an image cannot be decoded); {advice}"
        return [Source(png, damaged) for png in content]

    return read


def complaint(source: str, split: str) -> str:
    """Return the start of the message about a damaged file."""
    return f"{source} is damaged or not of the {split} split of tieredImageNet"


def decoded(source: Source) -> np.ndarray:
    """Return one image, uint8 [3, 84, 84]; raise UserError."""
    try:
        content = source.png.values().tobytes()
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has {len(content)} bytes")
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.mode != "RGB" or image.size != (SIDE, SIDE):
                raise ValueError(f"it is {image.mode} of {image.size} pixels")
            return np.asarray(image).transpose(2, 0, 1)
    except Exception as error:  # Pillow may raise anything on corrupt bytes
        log.debug("%r", error)
        raise UserError(source.complaint) from None
