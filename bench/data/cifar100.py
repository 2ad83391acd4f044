"""CIFAR-100, which CIFAR-FS and FC100 divide: 100 classes of 600 photographs in 20 superclasses.

Krizhevsky 2009, "Learning multiple layers of features from tiny images". Images are uint8
[3, 32, 32], red, green, blue, as the archive has them: the official training and test images of a
class together, by file name. The archive is read in memory, and its pickles run nothing. Colours
are not normalised by mean and deviation, as they are not in the code of Bertinetto et al. 2019.

The official data repeats itself: 26 images are there twice, 9 of them in one class and 17 in two,
such as seal and otter. Ten pairs have one image in the official training set and one in the test
set, which are the same to a few-shot learner. Nothing is left out, as in published figures.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from bench.data.archives import from_archive, plain
from bench.data.cache import Folders, cached
from bench.data.guard import check
from bench.data.pickles import Type, is_array, read_pickle
from bench.data.pool import Dataset, Pool, content_digest
from bench.data.tars import READ_ERRORS, members
from bench.mistake import Mistake

ARCHIVE = "cifar-100-python.tar.gz"
# SHA-256 of images and class names in canonical order, not of the archive's bytes: the same images
# may be packed in more than one way
DIGEST = "fcc5ed6c779195c8f1545e192012c81392871f385604a77f6510aa76f79ffa3f"
# one line a class: its name, its superclass, its split in each data set
TABLE = Path(__file__).with_name("cifar100_splits.txt")
# images in the two members of the archive that hold some
ROWS = {"train": 50_000, "test": 10_000}
MEMBERS = {f"cifar-100-python/{stem}": stem for stem in ("meta", *ROWS)}

SIDE = 32
# What a member may have at most, and for each row beside. Python 3 writes an image of 3,072 bytes
# as 4,440 on average, and takes 10 instructions for its name and labels.
BYTES, BYTES_PER_ROW = 10_000, 4_700
INSTRUCTIONS, INSTRUCTIONS_PER_ROW = 2_000, 12
# of all that is in the archive beside these members, such as the official file.txt~
OTHER_BYTES = 1_000_000


def prepare(folders: Folders, name: str, known_shared: int, url: str) -> Dataset:
    """The data set of that name, which is a column of the table of splits.

    ``known_shared`` is how many images the official data has in more than one of its splits.
    ``url`` is where the archive is downloaded from when neither folder has it in ``cifar100/``.

    Raises Mistake when the archive is missing and cannot be downloaded, is damaged, or does not
    hold the official images.
    """

    def build() -> Dataset:
        images = from_archive(folders, "cifar100", ARCHIVE, [ARCHIVE], url, images_in)
        splits = {
            split: Pool.of({each: images[each] for each in names})
            for split, names in split_names(name).items()
        }
        check(splits, known_shared)
        return Dataset.of(name, splits)

    recipe = DIGEST.encode() + TABLE.read_bytes()
    dataset = replace(cached(folders.cache, name, recipe, build), known_shared=known_shared)
    superclasses = {row["class"]: row["superclass"] for row in table()}
    return dataset.with_groups(superclasses.__getitem__)


def split_names(dataset: str) -> dict[str, list[str]]:
    """The classes of each split, in alphabetical order."""
    rows = table()
    return {
        split: sorted(row["class"] for row in rows if row[dataset] == split)
        for split in ("train", "val", "test")
    }


def table() -> list[dict[str, str]]:
    """Of each class its ``class``, ``superclass`` and, by data set, its split."""
    lines = [line.split() for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def images_in(file: BinaryIO, source: str, advice: str) -> dict[str, Tensor]:
    """All classes by name, each uint8 [600, 3, 32, 32], checked against the content digest.

    Raises Mistake; ``source`` and ``advice`` are as in `from_archive`.
    """
    try:
        classes = arrange(read_members(file))
    except READ_ERRORS as error:
        raise Mistake(f"{source} is damaged or not CIFAR-100 ({plain(error)}); {advice}") from None
    found = content_digest({"all": Pool.of(classes)})
    if found != DIGEST:
        raise Mistake(
            f"{source} holds other images than the official ones "
            f"(content digest {found[:12]}, expected {DIGEST[:12]}); {advice}"
        )
    return classes


def arrange(members: dict[str, Any]) -> dict[str, Tensor]:
    """All classes by name, each uint8 [600, 3, 32, 32], images by file name; raises ValueError.

    Takes the images out of ``members``, which are as `read_members` gives them.
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
    for part in parts:  # not as one array, which would take half a second copy
        images[place[: len(part)]], place = part, place[len(part) :]
    classes = torch.from_numpy(images).view(-1, each, 3, SIDE, SIDE)
    return dict(zip(sorted(names), classes, strict=True))


def column(member: Any, key: str, kind: type) -> list[Any]:
    """The list of that name in a member, of values of one type; raises ValueError."""
    values = member.get(key) if isinstance(member, dict) else None
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise ValueError(f"its {key} are not a list of {kind.__name__}")
    return values


def pixels(member: dict[str, Any], count: int) -> np.ndarray:
    """The images of a member, uint8 [count, 3072]; raises ValueError."""
    data = member.pop("data", None)  # frees the text, which is as large again
    if not is_array(data, Type.UINT8, (count, 3 * SIDE * SIDE)):
        raise ValueError(f"its data are not {count} images of 3 x {SIDE} x {SIDE} bytes")
    return data.values()


def read_members(file: BinaryIO) -> dict[str, Any]:
    """What the pickles ``meta``, ``train`` and ``test`` of an archive hold; raises one of READ_ERRORS.

    No more of the archive is unpacked than the official one has.
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
        del content  # before the next one is read
    if missing := set(MEMBERS.values()) - set(found):
        raise ValueError(f"it has no member {min(missing)}")
    return found
