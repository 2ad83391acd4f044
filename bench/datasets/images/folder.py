"""A user's own images: a folder with one sub-folder per class.

The name of a sub-folder is that of the class, and every file in it or below it that Pillow can read
is an image of that class. Sizes, formats and numbers of images may differ; `photos` describes how
they become uint8 [C, side, side]. Hidden files and folders, files of other types and sub-folders
without images are skipped. Classes are split by a file or at random (`class_split`), and no image
may be in two splits.

The images are kept in a memory-mapped file (`memmap`). It is rebuilt when a file has another size
or modification time, or the set of files changes; the location of the folder does not matter.
"""

import hashlib
import logging
import os
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import chain, combinations, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image

from bench.config.groups import names
from bench.config.schema import Count, Positive, last_name
from bench.core.errors import UserError, all_of, printable
from bench.datasets.io import memmap, photos
from bench.datasets.io.cache import DataDirs, prepared
from bench.datasets.io.class_split import random_split, read_split
from bench.datasets.io.photos import photo_or_reason, suffixes
from bench.tasks.classification.domain import Classification
from bench.tasks.classification.own_photos import OwnPhotos
from bench.tasks.leaks import fingerprints
from bench.tasks.pool import Dataset, Pool

log = logging.getLogger(__name__)

Result = TypeVar("Result")

MOST_NAMED = 3
"""Maximum number of files or classes named in a message; the others are counted."""
MOST_STORED, MOST_LEFT_OUT = 100, 9_000
"""Maximum numbers of files, and of letters, that a run stores of what was left out."""
MOST_LETTERS = 40
"""Maximum length of a data set's name in tables and file names."""
SPLITS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}
"""The split of each usual name of a sub-folder that is a split rather than a class."""
PHONES = (".heic", ".heif")


class File(NamedTuple):
    """An image file: its name relative to the folder, its size in bytes and its mtime in ns."""

    name: str
    size: int
    changed: int


Classes = dict[str, list[File]]


def prepare(
    folders: DataDirs,
    *,
    path: str | None,
    label: str | None,
    side: Positive,
    channels: Literal[1, 3],
    splits: str | None,
    split_seed: Count,
    min_classes: Positive,
    min_images: Positive,
    skip_unreadable: bool,
    nested: Literal["class", "group/class", "any/class"] | None = None,
    within: Literal["group"] | None = None,
) -> Dataset:
    """Return the images of the folder ``path`` at ``side`` x ``side`` pixels; see the module.

    Its name in tables is ``label``, by default the name of the folder. ``splits`` is a file
    (`read_split`); without one, the classes are split at random by ``split_seed``, at least
    ``min_classes`` in each. Where these are too few for that, all are test classes (`OwnPhotos`).
    Classes of fewer than ``min_images`` images are left out. ``nested`` says what folders below
    folders are: parts of a class; the classes of a group, so that no split divides a group; or the
    classes of any folder, such as one a camera, which are the same by name. With
    ``within="group"``, all classes of an episode are of one group.

    Raises:
        UserError: If folder or file cannot be found or used, an image cannot be read (unless
            ``skip_unreadable`` leaves it out) or is in two splits, or the disk is too full. Faults of
            images and of the split are told together.
    """
    if not path:
        raise UserError("dataset=folder needs images; name their folder with dataset.path=...")
    if within and nested != "group/class":
        raise UserError("dataset.within=group needs groups of classes: dataset.nested=group/class")
    root = find("path", path, [folders.archives])
    name = label_of(label or last_name(path) or "")
    others: list[str] = []
    by_split = split_folders(root, others)
    if by_split:
        found = {split: images_in(root, at, nested, others) for split, at in by_split.items()}
        every = {each: files for split in found.values() for each, files in split.items()}
        check_disjoint(root, found)
    else:
        every = images_in(root, ".", nested, others)
    classes = {each: files for each, files in every.items() if len(files) >= min_images}
    left_out = every.keys() - classes
    if not classes:
        raise UserError(f"No class in {root} has {min_images} images; lower dataset.min_images")
    faults = []
    try:
        if by_split:
            parts = {split: sorted(of.keys() & classes) for split, of in found.items()}
        elif splits is None and 2 <= len(classes) < 3 * min_classes:
            parts = {"train": [], "val": [], "test": sorted(classes)}
        elif splits:
            parts = read_split(find("splits", splits, [folders.archives, root]), classes)
        else:
            parts = random_split(classes, split_seed, min_classes, group_of if nested else str)
    except UserError as mistake:
        small = f" (dataset.min_images left out {some(left_out)})" if left_out else ""
        faults = [f"{root}: {mistake}{small}"]
        parts = {
            "train": [],
            "val": [],
            "test": sorted(classes),
        }  # to look at the images all the same

    passed_over = [f"{some(others)}, of kinds that are not read{convert(others)}"] if others else []
    passed_over += [f"{some(left_out)}, with too few images"] if left_out else []
    chosen = {split: {each: classes[each] for each in those} for split, those in parts.items()}
    photo_set = Photos(
        name, root, chosen, (channels, side, side), skip_unreadable, passed_over, faults
    )
    recipe = repr((chosen, photo_set.shape)).encode() + Path(photos.__file__).read_bytes()
    dataset = prepared(folders.cache, name, recipe, ".pixels", photo_set.read, photo_set.make)
    if nested == "group/class":
        dataset = dataset.with_groups(group_of)
    return dataset.within_groups() if within else dataset


def find(key: str, path: str, folders: Collection[Path]) -> Path:
    """Return the path that an option names, relative to here or to one of ``folders``.

    Raises UserError if it does not exist.
    """
    given = Path(path).expanduser()
    for place in (given, *(folder / given for folder in folders)):
        if place.exists():
            return place
    places = " nor in ".join(str(folder) for folder in folders)
    raise UserError(
        f"There is no {path}, neither here nor in {places}; say where it is with dataset.{key}=..., or "
        "in which folder with data_root=..."
    )


def label_of(name: str, own: str = "folder") -> str:
    """Return a name that is valid in tables and file names; raise UserError if it is taken.

    ``own`` is that of the choice of data set, which is taken where nothing else is left.
    """
    kept = "".join(c if c.isalpha() or c.isdecimal() or c in "_.+" else "-" for c in name)
    kept = kept.strip("-.")[:MOST_LETTERS] or own
    if kept in set(names("dataset")) - {own}:
        raise UserError(
            f"{kept!r} is the name of another data set; give yours with dataset.label=..."
        )
    return kept


def group_of(name: str) -> str:
    """Return the group of a class such as ``group/class``."""
    return name.rpartition("/")[0] or name


def split_folders(root: Path, others: list[str]) -> dict[str, str]:
    """Return the sub-folder of each split where all sub-folders are splits; else nothing.

    Raises UserError.
    """
    if not root.is_dir():
        raise UserError(f"{root} is a file; name a folder that holds one sub-folder a class")
    names = readable(sub_folders, root, others)
    found = {SPLITS.get(name.lower(), ""): name for name in names}
    if len(names) < 2 or "" in found:
        return {}
    if len(found) < 3 or len(names) > 3:
        raise UserError(
            f"{root} holds {', '.join(names)}: give train, val and test, each with its own classes, or "
            "put the folders of all classes beside each other, which are then split at random"
        )
    return {split: found[split] for split in ("train", "val", "test")}


def check_disjoint(root: Path, found: dict[str, Classes]) -> None:
    """Raise UserError if splits share classes, as in data sets for ordinary classification."""
    for one, other in combinations(found, 2):
        if both := found[one].keys() & found[other].keys():
            raise UserError(
                f"{root}: {one} and {other} share the classes {some(both)}, where a few-shot test needs "
                "classes that nobody has trained on; put the folders of all classes beside each other, "
                "which are then split at random"
            )


def readable(work: Callable[..., Result], *given: object) -> Result:
    """Return the result of looking into folders; raise UserError if one cannot be read."""
    try:
        return work(*given)
    except OSError as error:
        raise UserError(
            f"Cannot read {error.filename} ({error.strerror}); make it readable"
        ) from None


def sub_folders(place: Path, others: list[str]) -> list[str]:
    """Return the names of visible sub-folders; links to a folder around them are passed over."""
    whole = place.resolve()
    names = sorted(entry.name for entry in os.scandir(place) if entry.is_dir())
    kept = []
    for name in filter(visible, names):
        at = (place / name).resolve()
        if at == whole or at in whole.parents:
            others.append(f"{name} (a link to a folder that it is in)")
        else:
            kept.append(name)
    return kept


def images_in(root: Path, below: str, nested: str | None, others: list[str]) -> Classes:
    """Return the image files of each class by name, from the sub-folders of ``root / below``.

    Adds the names of other files to ``others``. Raises UserError.
    """
    return readable(_images_in, root, below, nested, others)


def _images_in(root: Path, below: str, nested: str | None, others: list[str]) -> Classes:
    classes: Classes = {}
    place = root / below
    deeper = []
    for folder in sub_folders(place, others):
        if files := files_in(root, (Path(below) / folder).as_posix(), others):
            depth = len(Path(below, folder).parts)
            inner = {file: Path(file.name).parts[depth:-1] for file in files}
            if all(inner.values()):
                deeper.append(f"{folder}/{next(iter(inner.values()))[0]}")
            for file, parts in inner.items():
                name = {
                    "group/class": "/".join([folder, *parts[:1]]),
                    "any/class": parts[0] if parts else folder,
                }.get(nested or "class", folder)
                classes.setdefault(spelled(name), []).append(file)
    if nested is None and deeper and len(deeper) == len(classes) > 1:
        raise UserError(
            f"Each folder of {place} holds folders of images alone, such as {deeper[0]}. Say what they "
            "are by dataset.nested=class (parts of one class), group/class (classes of a group) or "
            "any/class (classes of a camera, a day or the like, the same by name)"
        )
    loose = [each for each in os.listdir(place) if Path(each).suffix.lower() in suffixes()]
    if not classes:
        found = "images, but not in sub-folders" if loose else "no sub-folders with images"
        kinds = f" (files such as {others[0]} are not read{convert(others)})" if others else ""
        raise UserError(
            f"{place} holds {found}{kinds}; make one sub-folder of images for each class"
        )
    return {name: sorted(files) for name, files in classes.items()}


def spelled(name: str) -> str:
    """Return the name of a folder as one text, however its system stores accents."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)


def convert(names: Collection[str]) -> str:
    """Return advice on photo formats of phones, if there are such files."""
    phones = any(name.lower().endswith(PHONES) for name in names)
    return "; install pillow-heif to read HEIC, or convert it to JPEG or PNG" if phones else ""


def files_in(root: Path, folder: str, others: list[str]) -> list[File]:
    """Return the image files in a sub-folder and below, by name.

    Adds the names of files of other types to ``others``. Raises OSError.
    """

    def fail(error: OSError) -> None:
        raise error

    files = []
    for place, below, here in os.walk(root / folder, onerror=fail):
        below[:] = filter(visible, below)
        for each in filter(visible, here):
            path = Path(place, each)
            name = path.relative_to(root).as_posix()
            facts = path.stat() if path.exists() else None
            if facts and stat.S_ISREG(facts.st_mode) and path.suffix.lower() in suffixes():
                files.append(File(name, facts.st_size, facts.st_mtime_ns))
            else:
                others.append(name)
    return sorted(files)


def visible(name: str) -> bool:
    """Return whether a file or folder is the user's, rather than hidden or made by the system."""
    return not name.startswith(".") and name != "__MACOSX"


def some(things: Collection[str], most: int = MOST_NAMED) -> str:
    """Return the names of the first few things, and the number of the others."""
    named = sorted(things)[:most]
    more = len(things) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


@dataclass(frozen=True)
class Photos:
    """Image files that are to become a data set, by split and class.

    ``faults`` are those of the splits, where there are any.
    """

    name: str
    root: Path
    chosen: dict[str, Classes]
    shape: memmap.Shape
    skip_unreadable: bool
    passed_over: list[str]
    faults: list[str]

    @property
    def files(self) -> list[File]:
        """All files, in the order of splits and classes."""
        each_class = (files for classes in self.chosen.values() for files in classes.values())
        return [file for files in each_class for file in files]

    def read(self, path: Path) -> Dataset | None:
        """Return the data set from a file that was built before, if it is complete and intact."""
        facts = memmap.load_state(path)
        if facts.digest is None or self.faults:
            return None
        if faults := self.faults_of(facts):
            raise UserError(all_of(faults))
        try:
            splits = self.splits(path, facts)
            if memmap.is_intact(path, splits, facts.digest):
                self.say(facts)
                return Dataset(self.name, facts.digest, splits, **self.rest(facts))
        except (OSError, ValueError) as error:
            log.debug("%s: %r", path, error)
        log.warning("%s is damaged and is prepared anew", path)
        return None

    def make(self, path: Path | None) -> Dataset:
        """Build the data set in a file, resuming if possible, or in one that is not kept."""
        if path is None:
            with tempfile.TemporaryDirectory() as folder:  # a mapped file outlives its name
                return self.make(Path(folder) / "photos.pixels")
        for each in self.passed_over:
            log.warning("%s passes over %s", self.name, each)
        facts = memmap.build(path, self.name, self.files, self.shape, self.photo)
        splits = self.splits(path, facts)
        shared, facts.notes = self.compare(splits, facts)
        if faults := [*self.faults, *self.faults_of(facts), *shared]:
            raise UserError(all_of(faults))
        facts.originals = self.digest(facts)
        self.say(facts)
        dataset = Dataset.of(self.name, splits, **self.rest(facts))
        facts.digest = dataset.digest
        memmap.save(path, facts)
        return dataset

    def say(self, facts: memmap.BuildState) -> None:
        """Log warnings about the images, and what they are for."""
        if not self.chosen["train"]:
            classes = self.chosen["test"]
            log.warning(
                "%s: %d classes are too few to train on some and test on others: all of them are tested "
                "(%s)",
                self.name,
                len(classes),
                some(classes),
            )
        if facts.unreadable:
            log.warning("%s leaves out %s", self.name, self.left_out(facts, MOST_NAMED))
        for note in facts.notes:
            log.warning("%s: %s", self.name, note)

    def left_out(self, facts: memmap.BuildState, most: int) -> str:
        """Return how many files cannot be read, with the names of so many of them."""
        broken = some(self.unreadable(facts), most)
        return f"{len(facts.unreadable)} of {len(self.files)} files, which cannot be read: {broken}"

    def unreadable(self, facts: memmap.BuildState) -> list[str]:
        """Return the files that cannot be read, and why."""
        files = self.files
        return [f"{printable(files[n].name)} ({why})" for n, why in facts.unreadable.items()]

    def faults_of(self, facts: memmap.BuildState) -> list[str]:
        """Return what is wrong with the images of the folder, each with what to do."""
        found = []
        if facts.unreadable and not self.skip_unreadable:
            found.append(
                f"{len(facts.unreadable)} of {len(self.files)} files in {self.root} cannot be read: "
                f"{some(self.unreadable(facts))}; repair or delete them, or leave them out with "
                "dataset.skip_unreadable=true"
            )
        sizes = self.sizes(facts)
        few = [name for each in sizes.values() for name, size in each.items() if size < 2]
        if few:
            found.append(
                f"{self.root} has classes of fewer than 2 images: {some(few)}; add images or delete the "
                "sub-folders, or leave such classes out with dataset.min_images=2"
            )
        return found

    def digest(self, facts: memmap.BuildState) -> str:
        """Return the SHA-256 (hexadecimal) of the files that can be read, in their order."""
        digest = hashlib.sha256()
        for number, each in enumerate(self.files):
            if number not in facts.unreadable:
                with (self.root / each.name).open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def photo(self, file: File) -> np.ndarray | str:
        """Return the image in a file, or why there is none."""
        channels, side, _ = self.shape
        return photo_or_reason(self.root / file.name, side, channels)

    def rest(self, facts: memmap.BuildState) -> dict[str, Any]:
        """Return the domain, and a function that reads the image of a split and index anew, in full."""
        places = iter(range(len(self.files)))
        readable = {
            split: {
                name: [file for file in files if next(places) not in facts.unreadable]
                for name, files in classes.items()
            }
            for split, classes in self.chosen.items()
        }
        files = {split: [*chain(*classes.values())] for split, classes in readable.items()}

        def original(split: str, index: int) -> Image.Image:
            return photos.decoded(self.root / files[split][index].name, photos.ENCODED_SIDE, "RGB")

        test = {name: [printable(f.name) for f in each] for name, each in readable["test"].items()}
        domain = Classification() if readable["train"] else OwnPhotos(test)
        left_out = self.left_out(facts, MOST_STORED) if facts.unreadable else ""
        return {
            "original": original,
            "original_digest": facts.originals,
            "domain": domain,
            "left_out": left_out[:MOST_LEFT_OUT],
        }

    def sizes(self, facts: memmap.BuildState) -> dict[str, dict[str, int]]:
        """Return the number of images that can be read, by split and class."""
        readable = iter([n not in facts.unreadable for n in range(len(self.files))])
        return {
            split: {name: sum(islice(readable, len(each))) for name, each in classes.items()}
            for split, classes in self.chosen.items()
        }

    def splits(self, path: Path, facts: memmap.BuildState) -> dict[str, Pool]:
        """Return the pools of a memory-mapped file that contains all images.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If the file does not contain all images.
        """
        sizes = self.sizes(facts)
        images = memmap.open_memmap(path, facts.rows, self.shape)
        each_split = images.split([sum(each.values()) for each in sizes.values()])
        return {
            split: Pool(part, torch.tensor([0, *sizes[split].values()]).cumsum(0), tuple(classes))
            for part, (split, classes) in zip(each_split, self.chosen.items(), strict=True)
        }

    def compare(
        self, splits: dict[str, Pool], facts: memmap.BuildState
    ) -> tuple[list[str], list[str]]:
        """Return faults and notes on pixel-identical images.

        It is a fault if they are in two splits, and a note within a class, or in two of a split.
        """
        files = iter([file for n, file in enumerate(self.files) if n not in facts.unreadable])
        first: dict[bytes, tuple[str, str, str]] = {}
        shared: dict[bytes, str] = {}
        repeated: list[str] = []
        ambiguous: list[str] = []
        for split, pool in splits.items():
            classes = [name for name, size in zip(pool.names, pool.sizes, strict=True)
                       for _ in range(size)]  # fmt: skip
            # the pool comes first, so that zip does not consume a file when it ends
            for image, name, file in zip(fingerprints(pool), classes, files, strict=False):
                where, whose, other = first.setdefault(image, (split, name, file.name))
                if where != split:
                    shared.setdefault(image, f"{other} ({where}) and {file.name} ({split})")
                elif whose != name:
                    ambiguous.append(f"{other} and {file.name}")
                elif other != file.name:
                    repeated.append(f"{other} and {file.name}")
        faults, notes = [], []
        if shared:
            faults.append(
                f"{len(shared)} images in {self.root} are in two splits, as are "
                f"{some(shared.values())}; delete one of each, or have both classes in one split by "
                "dataset.splits=FILE"
            )
        if repeated:
            notes.append(
                f"images that repeat one of their own class: {len(repeated)}, such as {some(repeated)}; "
                "an episode may ask for what it has shown, so delete one of each"
            )
        if ambiguous:
            notes.append(
                f"images that are in two classes: {len(ambiguous)}, such as {some(ambiguous)}; "
                "no learner can tell which is meant, so delete one of each"
            )
        return faults, notes
