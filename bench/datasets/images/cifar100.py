"""CIFAR-100, the source of CIFAR-FS and FC100: 100 classes of 600 photographs, 20 superclasses.

Krizhevsky 2009, "Learning multiple layers of features from tiny images". Images are uint8 [3, 32,
32], RGB, as in the archive: the official training and test images of a class together, by file
name. The archive is read in memory, and its pickles cannot run code. Colours are not normalised by
mean and standard deviation, as in the code of Bertinetto et al. 2019.

The official data has duplicates: 26 images occur twice, 9 of them in one class and 17 in two, such
as seal and otter. Ten pairs have one image in the official training set and one in the test set, a
distinction that few-shot learning does not make. Nothing is left out, as in published results.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from bench.core.errors import UserError
from bench.datasets.io.archives import ascii_message, from_archive
from bench.datasets.io.cache import DataDirs, cached
from bench.datasets.io.pickles import is_array, read_pickle
from bench.datasets.io.tars import READ_ERRORS, members
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset, Pool, content_digest

ARCHIVE = "cifar-100-python.tar.gz"
# SHA-256 of images and class names in canonical order, not of the archive's bytes, which may
# differ for the same images
DIGEST = "fcc5ed6c779195c8f1545e192012c81392871f385604a77f6510aa76f79ffa3f"
# one line per class: its name, its superclass, its split in each data set
TABLE = Path(__file__).with_name("cifar100_splits.txt")
# images in the two members of the archive that have any
ROWS = {"train": 50_000, "test": 10_000}
MEMBERS = {f"cifar-100-python/{stem}": stem for stem in ("meta", *ROWS)}

SIDE = 32
# Limits of a member, and additionally per row. Python 3 writes an image of 3,072 bytes as 4,440 on
# average, and takes 10 instructions for its name and labels.
BYTES, BYTES_PER_ROW = 10_000, 4_700
INSTRUCTIONS, INSTRUCTIONS_PER_ROW = 2_000, 12
# limit for all other members of the archive, such as the official file.txt~
OTHER_BYTES = 1_000_000


def prepare(
    folders: DataDirs,
    name: str,
    expected_duplicates: int,
    url: str,
    within: Literal["group"] | None = None,
) -> Dataset:
    """Return the data set of that name, which is a column of the table of splits.

    Args:
        folders: The folders of archives and of the cache.
        name: The name of the data set.
        expected_duplicates: The number of images that the official data has in more than one of its
            splits.
        url: Where the archive is downloaded from if neither folder has it in ``cifar100/``.
        within: Whether all classes of an episode are of one superclass.

    Raises:
        UserError: If the archive is missing and cannot be downloaded, is damaged, or does not
            contain the official images.
    """

    def build() -> Dataset:
        images = from_archive(folders, "cifar100", ARCHIVE, [ARCHIVE], url, images_in)
        splits = {
            split: Pool.of({each: images[each] for each in names})
            for split, names in split_names(name).items()
        }
        check(splits, expected_duplicates)
        return Dataset.of(name, splits)

    recipe = DIGEST.encode() + TABLE.read_bytes()
    dataset = replace(
        cached(folders.cache, name, recipe, build), expected_duplicates=expected_duplicates
    )
    superclasses = {row["class"]: row["superclass"] for row in table()}
    dataset = dataset.with_groups(superclasses.__getitem__)
    return dataset.within_groups() if within else dataset


def split_names(dataset: str) -> dict[str, list[str]]:
    """Return the classes of each split, in alphabetical order."""
    rows = table()
    return {
        split: sorted(row["class"] for row in rows if row[dataset] == split)
        for split in ("train", "val", "test")
    }


def table() -> list[dict[str, str]]:
    """Return for each class its ``class``, ``superclass`` and, by data set, its split."""
    lines = [line.split() for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def images_in(file: BinaryIO, source: str, advice: str) -> dict[str, Tensor]:
    """Return all classes by name, each uint8 [600, 3, 32, 32], checked against the digest.

    Raises UserError; ``source`` and ``advice`` are as in `from_archive`.
    """
    try:
        classes = arrange(read_members(file))
    except READ_ERRORS as error:
        raise UserError(
            f"{source} is damaged or not CIFAR-100 ({ascii_message(error)}); {advice}"
        ) from None
    found = content_digest({"all": Pool.of(classes)})
    if found != DIGEST:
        raise UserError(
            f"{source} holds other images than the official ones "
            f"(content digest {found[:12]}, expected {DIGEST[:12]}); {advice}"
        )
    return classes


def arrange(members: dict[str, Any]) -> dict[str, Tensor]:
    """Return all classes by name, each uint8 [600, 3, 32, 32], images in order of file names.

    Removes the images from ``members``, which are as returned by `read_members`. Raises ValueError.
    """
    names = column(members["meta"], "fine_label_names", str)
    if sorted(names) != sorted(row["class"] for row in table()):
        raise ValueError("its classes are not those of CIFAR-100")

    rows: list[tuple[str, str]] = []
    parts = []
    for stem, count in ROWS.items():
        member = members[stem]
        labels, files = column(member, "fine_labels", int), column(member, "filenames", str)
        if not len(labels) == len(files) == count:
            raise ValueError(f"{stem} has {len(labels)} labels and {len(files)} names of {count}")
        if not all(0 <= label < len(names) for label in labels):
            raise ValueError(f"{stem} has labels of no class")
        rows += [(names[label], name) for label, name in zip(labels, files, strict=True)]
        parts.append(pixels(member, count))

    each = len(rows) // len(names)
    for name, size in Counter(name for name, _ in rows).items():
        if size != each:
            raise ValueError(f"it has {size} images of {name} instead of {each}")
    place = np.empty(len(rows), np.int64)
    place[sorted(range(len(rows)), key=rows.__getitem__)] = range(len(rows))
    images = np.empty((len(rows), 3 * SIDE * SIDE), np.uint8)
    for part in parts:  # one by one, to avoid a second copy of all
        images[place[: len(part)]], place = part, place[len(part) :]
    classes = torch.from_numpy(images).view(-1, each, 3, SIDE, SIDE)
    return dict(zip(sorted(names), classes, strict=True))


def column(member: Any, key: str, kind: type) -> list[Any]:
    """Return the list of that name in a member, of values of one type; raise ValueError."""
    values = member.get(key) if isinstance(member, dict) else None
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise ValueError(f"its {key} are not a list of {kind.__name__}")
    return values


def pixels(member: dict[str, Any], count: int) -> np.ndarray:
    """Return the images of a member, uint8 [count, 3072]; raise ValueError."""
    data = member.pop("data", None)  # frees the text, which is as large
    if not is_array(data, "u1", (count, 3 * SIDE * SIDE)):
        raise ValueError(f"its data are not {count} images of 3 x {SIDE} x {SIDE} bytes")
    return data.values()


def read_members(file: BinaryIO) -> dict[str, Any]:
    """Return the content of the pickles ``meta``, ``train`` and ``test`` of an archive.

    No more of it is unpacked than the official one has. Raises one of READ_ERRORS.
    """

    def most(name: str) -> int | None:
        stem = MEMBERS.get(name)
        return BYTES + ROWS.get(stem, 0) * BYTES_PER_ROW if stem else None

    found: dict[str, Any] = {}
    for name, content in members(file, most, OTHER_BYTES):
        stem = MEMBERS[name]
        instructions = INSTRUCTIONS + ROWS.get(stem, 0) * INSTRUCTIONS_PER_ROW
        try:
            found[stem] = read_pickle(content, instructions)
        except ValueError as error:
            raise ValueError(f"its member {name}: {error}") from None
        del content  # free it before the next one is read
    if missing := set(MEMBERS.values()) - set(found):
        raise ValueError(f"it has no member {min(missing)}")
    return found
