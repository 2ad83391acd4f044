"""Memory-mapped image files, built incrementally.

For data sets of any number of files. Work that was done before a process was killed is not
repeated, and a pool may be larger than memory: the system reads the pages that are sampled, and
evicts them when it needs the memory. The images are stored row by row in ``<name>.pixels``; the
progress, the unreadable files and the digest of the finished data set are in ``<name>.json`` beside
it.
"""

import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from bench.core.atomic import atomic_write
from bench.core.errors import UserError
from bench.datasets.io.photos import Source, parallel_map
from bench.tasks.pool import Pool, content_digest

SAVE_SECONDS = 2.0
"""Minimum time between two saves of the progress."""

Shape = tuple[int, int, int]

_whole: set[tuple[Path, int, str]] = set()
"""Files, with their modification time in ns and digest, that this process found intact."""


@dataclass
class BuildState:
    """The progress of a file: the number of sources ``done``, and the ``unreadable`` among them.

    ``unreadable`` gives the reason for each. Of a finished data set, ``originals`` is a digest of the
    others, and ``notes`` are logged whenever it is read.
    """

    done: int = 0
    unreadable: dict[int, str] = field(default_factory=dict)
    digest: str | None = None
    originals: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The number of images in the file."""
        return self.done - len(self.unreadable)


def load_state(path: Path) -> BuildState:
    """Return the state in the file beside ``path``; an empty one if it is missing or damaged."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        unreadable = {int(number): str(why) for number, why in facts["unreadable"].items()}
        done, digest, originals = facts["done"], facts["digest"], str(facts["originals"])
        notes = [str(note) for note in facts["notes"]]
        if type(done) is not int or not isinstance(digest, str | None):
            return BuildState()
        if done < 0 or not all(0 <= number < done for number in unreadable):
            return BuildState()
        return BuildState(done, unreadable, digest, originals, notes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return BuildState()


def save(path: Path, facts: BuildState) -> None:
    """Write what `load_state` reads; raise OSError."""
    atomic_write(path.with_suffix(".json"), json.dumps(asdict(facts)))


def build(
    path: Path,
    name: str,
    sources: Sequence[Source],
    shape: Shape,
    read: Callable[[Source], np.ndarray | str],
) -> BuildState:
    """Build the images of all sources, each uint8 of that shape, resuming if possible.

    ``read`` returns an image, or the reason why there is none.

    Raises:
        UserError: If the disk is too full.
    """
    facts = load_state(path)
    size = prod(shape)
    path.touch()
    with path.open("r+b") as file:
        # a finished file is rebuilt only if it is damaged
        if facts.digest or facts.done > len(sources) or file.seek(0, SEEK_END) < facts.rows * size:
            facts = BuildState()
        if facts.done == len(sources):
            return facts
        check_disk_space(path, name, len(sources) - facts.done, shape)
        file.truncate(facts.rows * size)
        file.seek(0, SEEK_END)
        try:
            _append(file, path, name, sources, read, facts)
        except OSError as error:
            raise UserError(
                f"Cannot keep the images of {name} in {path.parent} ({error.strerror}); make room there, "
                "or name another folder with cache_dir=..."
            ) from None
    return facts


def _append(
    file: BinaryIO,
    path: Path,
    name: str,
    sources: Sequence[Source],
    read: Callable[[Source], np.ndarray | str],
    facts: BuildState,
) -> None:
    """Write the images of the sources that are not done; raise OSError."""
    last = time.monotonic()
    rest = sources[facts.done :]
    for image in parallel_map(read, rest, f"Preparing {name}", len(sources), facts.done):
        if isinstance(image, str):
            facts.unreadable[facts.done] = image
        else:
            file.write(image.tobytes())
        facts.done += 1
        if facts.done == len(sources) or time.monotonic() - last > SAVE_SECONDS:
            file.flush()  # first, so that the count never exceeds the content
            save(path, facts)
            last = time.monotonic()


def check_disk_space(path: Path, name: str, count: int, shape: Shape) -> None:
    """Report the disk space that the images need; raise UserError if the disk has less."""
    wanted, free = count * prod(shape), shutil.disk_usage(path.parent).free
    size = " x ".join(map(str, shape))
    if wanted > free:
        raise UserError(
            f"The {count:,} images of {name} take {wanted / 1e6:,.0f} MB at {size} bytes each, but "
            f"{path.parent} has {free / 1e6:,.0f} MB free; make room, name another folder with "
            "cache_dir=..., or take a smaller dataset.side"
        )
    tqdm.write(
        f"Preparing {count:,} images of {name} at {size} bytes: {wanted / 1e6:,.1f} MB of disk in "
        f"{path.parent}, mapped from there and not held in memory",
        sys.stderr,
    )


def open_memmap(path: Path, count: int, shape: Shape) -> Tensor:
    """Return the first images of a file, uint8 [count, C, H, W], read lazily and not writable.

    Raises OSError or ValueError if the file has fewer.
    """
    images = np.memmap(path, np.uint8, "r", shape=(count, *shape))
    with warnings.catch_warnings(action="ignore"):  # torch warns that the array is not writable
        return torch.from_numpy(images)


def is_intact(path: Path, splits: Mapping[str, Pool], digest: str) -> bool:
    """Return whether the pools mapped from a file have that digest, checked once per process.

    Raises OSError if the file does not exist.
    """
    version = (path, path.stat().st_mtime_ns, digest)
    if version not in _whole and content_digest(splits) == digest:
        _whole.add(version)
    return version in _whole
