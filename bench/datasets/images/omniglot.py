"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people.

Lake, Salakhutdinov, Tenenbaum 2015, "Human-level concept learning through probabilistic program
induction"; the class split 1028 / 172 / 423 is that of Vinyals et al. 2016 (Matching Networks). The
split divides one alphabet: Gurmukhi has 41 characters in train and 4 in test.

Images are uint8 [1, 28, 28], ink = 255, paper = 0. The originals are 105 x 105 with 1 bit per
pixel, and are resampled by **nearest neighbour**: the central pixel of each 3.75 x 3.75 cell. The
codes of MAML, Reptile and Prototypical Networks do the same, whatever filter they ask for, since
Pillow resizes 1-bit images by nearest neighbour only; so published results are based on these
pixels. The method is also exact, and commutes with rotations by quarter turns. An antialiased
filter would preserve thin strokes and make the task a little easier.

The official data has duplicates: after resampling, 6 images of train equal another drawing of their
own class. No image is in more than one split, rotated or not.
"""

import io
import re
import zipfile
import zlib
from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.core.errors import UserError
from bench.datasets.io.archives import from_archive
from bench.datasets.io.cache import DataDirs, cached
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset, Original, Pool, content_digest

# SHA-256 of each archive's 28 x 28 images and names in canonical order, not of the archive's
# bytes, which may differ for the same drawings
ARCHIVES = {
    "images_background": "bd4867c2946d96934e8ce2a1b2cfae8d7e3eb403cb0e03b5ae7c89ab1e4e5bdb",
    "images_evaluation": "998eaddfa3c38d1397270d37e61aced54f3d30f37729705a19ec66b0901e538c",
}
SPLIT = Path(__file__).with_name("omniglot_split.txt")

LAKE_SHARED = {"none": 0, "train": 1, "train+val": 1, "one_turn": 4, "all": 4}
"""Images in two splits of Lake: one of Latin is one of Atemayar Qelisayer, turned."""

DRAWINGS = 20
MEMBER = re.compile(r"(images_\w+/[^/]+/character\d\d)/\d{4}_\d\d\.png")
# the largest official image has 522 bytes
MAX_BYTES = 10_000
MIDDLES = (np.arange(28) * 2 + 1) * 105 // 56


def prepare(
    folders: DataDirs,
    *,
    rotations: Literal["all", "train", "train+val", "one_turn", "none"],
    url: str,
    split: Literal["vinyals", "lake"] = "vinyals",
    within: Literal["group"] | None = None,
) -> Dataset:
    """Return Omniglot from its two official archives; see the module for the images.

    With ``rotations="all"`` every split has each character four times, rotated by 0, 90, 180 and
    270 degrees, as separate classes: 4112 / 688 / 1692 classes; with ``"train"`` or ``"train+val"``
    only these splits do, as in the code of Reptile. With ``"one_turn"`` all do, but each character
    of an episode has one rotation, drawn anew, as in the code of MAML. ``url`` is where
    ``images_background.zip`` and ``images_evaluation.zip`` are downloaded from if neither folder
    has them in ``omniglot/``.

    ``split="lake"`` is that of Lake et al.: the 20 evaluation alphabets are the test, and of the 30
    background alphabets each sixth is for validation, so that no alphabet is in two splits. With
    ``within="group"``, all characters of an episode are of one alphabet. Together they are the harder
    half of the literature.

    Raises:
        UserError: If an archive is missing and cannot be downloaded, is damaged, or does not
            contain the official images.
    """
    names = split_names() if split == "vinyals" else lake_names()
    name = "omniglot" if split == "vinyals" else "omniglot-lake"
    recipe = repr(ARCHIVES).encode() + (
        SPLIT.read_bytes() if split == "vinyals" else repr(names).encode()
    )
    drawn = cached(folders.cache, name, recipe, lambda: build(folders, url, name, names))
    seen = originals(folders, drawn.splits)
    dataset = replace(drawn, original=seen, resampling="nearest", inverted=True)
    if split == "lake":
        dataset = replace(dataset, expected_duplicates=LAKE_SHARED[rotations])
    # by alphabet: its characters share a style, and the same 20 people drew them all
    dataset = dataset.with_groups(alphabet)
    if rotations == "one_turn":
        dataset = dataset.rotated(one_turn=True)
    elif rotations != "none":
        dataset = dataset.rotated(only=None if rotations == "all" else rotations)
    return dataset.within_groups() if within else dataset


def build(folders: DataDirs, url: str, name: str, names: dict[str, list[str]]) -> Dataset:
    """Return the data set without rotations, from the archives."""
    every = sorted(name for split in names.values() for name in split)
    classes: dict[str, Tensor] = {}
    for stem in ARCHIVES:
        classes |= official_images(folders, url, stem, every)
    splits = {
        split: Pool.of({name: classes[name] for name in sorted(names[split])}) for split in names
    }
    dataset = Dataset.of(name, splits)
    # rotated, which includes the original images: a rotated image must not leak either
    check(dataset.rotated().splits, 0 if name == "omniglot" else LAKE_SHARED["all"])
    return dataset


def split_names() -> dict[str, list[str]]:
    """Return the classes of each split, such as ``images_background/Greek/character07``."""
    names: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for line in SPLIT.read_text().splitlines()[1:]:
        split, alphabet, first, last = line.split()
        numbers = range(int(first), int(last) + 1)
        names[split] += [f"{alphabet}/character{number:02}" for number in numbers]
    return names


def lake_names() -> dict[str, list[str]]:
    """Return the classes of each split by alphabets, as `split_names`."""
    every = sorted(name for names in split_names().values() for name in names)
    background = sorted({alphabet(name) for name in every if name.startswith("images_background/")})
    splits = {each: "val" if n % 6 == 5 else "train" for n, each in enumerate(background)}
    names: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name in every:
        names[splits.get(alphabet(name), "test")].append(name)
    return names


def alphabet(name: str) -> str:
    """Return the alphabet of a class, such as ``images_background/Greek``."""
    return name.rsplit("/", 1)[0]


def official_images(folders: DataDirs, url: str, stem: str, names: list[str]) -> dict[str, Tensor]:
    """Return the classes of one archive, found or downloaded, each uint8 [20, 1, 28, 28]."""
    wanted = [name for name in names if name.startswith(f"{stem}/")]

    def read(file: BinaryIO, source: str, advice: str) -> dict[str, Tensor]:
        return images_in(file, wanted, ARCHIVES[stem], source, advice)

    every, address = [f"{each}.zip" for each in ARCHIVES], f"{url.rstrip('/')}/{stem}.zip"
    return from_archive(folders, "omniglot", f"{stem}.zip", every, address, read)


def images_in(
    file: BinaryIO, names: list[str], digest: str, source: str, advice: str
) -> dict[str, Tensor]:
    """Return the named classes of an archive, checked against its content digest.

    Raises UserError; ``source`` and ``advice`` are as in `from_archive`.
    """
    try:
        classes = read_archive(file, names)
    except READ_ERRORS as error:
        raise UserError(f"{source} is damaged or not Omniglot ({error}); {advice}") from None
    found = content_digest({"all": Pool.of(classes)})
    if found != digest:
        raise UserError(
            f"{source} holds other images than the official ones "
            f"(content digest {found[:12]}, expected {digest[:12]}); {advice}"
        )
    return classes


def originals(folders: DataDirs, pools: dict[str, Pool]) -> Original:
    """Return a function that reads the 105 x 105 drawing of a split and index from its archive."""

    @cache
    def archive(stem: str) -> tuple[zipfile.ZipFile, dict[str, list[zipfile.ZipInfo]]]:
        path = folders.find(f"omniglot/{stem}.zip")
        if not path:
            raise UserError(
                f"Pretrained networks see the original drawings: put {stem}.zip into "
                f"{folders.archives / 'omniglot'}"
            )
        opened = zipfile.ZipFile(path)
        members: dict[str, list[zipfile.ZipInfo]] = defaultdict(list)
        for info in sorted(opened.infolist(), key=lambda info: info.filename):
            if match := MEMBER.fullmatch(info.filename):
                members[match[1]].append(info)
        return opened, members

    def original(split: str, index: int) -> Image.Image:
        name, number = pools[split].names[index // DRAWINGS], index % DRAWINGS
        opened, members = archive(name.split("/")[0])
        info = members[name][number]
        if (drawing(opened, info) != pools[split].inputs[index, 0].numpy()).any():
            raise UserError(f"{opened.filename} is not the archive that omniglot was made from")
        return Image.open(io.BytesIO(opened.read(info)))

    return original


# errors of zipfile and Pillow on invalid content
READ_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
)


def read_archive(file: BinaryIO, names: list[str]) -> dict[str, Tensor]:
    """Return the classes ``names`` of a zip file, each uint8 [20, 1, 28, 28], by file name.

    Other members are not read. Raises one of READ_ERRORS.
    """
    members: dict[str, dict[str, zipfile.ZipInfo]] = defaultdict(dict)
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if match := MEMBER.fullmatch(info.filename):
                members[match[1]][info.filename] = info
        classes = {}
        for name in names:
            if len(members[name]) != DRAWINGS:
                raise ValueError(f"{len(members[name])} drawings of {name} instead of {DRAWINGS}")
            drawings = [drawing(archive, info) for _, info in sorted(members[name].items())]
            classes[name] = torch.from_numpy(np.stack(drawings))[:, None]
    return classes


def drawing(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Return one image, uint8 [28, 28]; raise one of READ_ERRORS."""
    if info.file_size > MAX_BYTES:
        raise ValueError(f"{info.filename} has {info.file_size} bytes")
    with Image.open(io.BytesIO(archive.read(info)), formats=["PNG"]) as image:
        if image.mode != "1" or image.size != (105, 105):
            raise ValueError(f"{info.filename} is not a 1-bit image of 105 x 105 pixels")
        paper = np.asarray(image)
    return np.where(paper[np.ix_(MIDDLES, MIDDLES)], 0, 255).astype(np.uint8)
