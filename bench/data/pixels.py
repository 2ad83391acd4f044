"""Images in a file of their own, made one after the other and mapped into memory to be drawn from.

For data sets of any number of files. What was made before a process was killed is not made again, and
a pool may be larger than memory: the system reads the pages that are drawn, and drops them when it needs
the room. The images lie row by row in ``<name>.pixels``; how far that is, what could not be read and the
digest of the finished data set stand in ``<name>.json`` beside it.
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

from bench.data.photos import Source, side_by_side
from bench.data.pool import Pool, content_digest
from bench.files import write_whole
from bench.mistake import Mistake

SAVE_SECONDS = 2.0
"""What was made is counted when so much time has passed since it last was."""

Shape = tuple[int, int, int]

_whole: set[tuple[Path, int, str]] = set()
"""Files, with their time of change in ns and digest, that this process found to be as written."""


@dataclass
class Made:
    """How far a file is: sources that were ``done``, and of those the ``unreadable``, with the reason.

    ``notes`` are what is to be said of the finished data set whenever it is read.
    """

    done: int = 0
    unreadable: dict[int, str] = field(default_factory=dict)
    digest: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.done - len(self.unreadable)


def made(path: Path) -> Made:
    """What the file beside ``path`` says of it; of nothing where there is none, or it is damaged."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        unreadable = {int(number): str(why) for number, why in facts["unreadable"].items()}
        done, digest = facts["done"], facts["digest"]
        notes = [str(note) for note in facts["notes"]]
        if type(done) is not int or not isinstance(digest, str | None):
            return Made()
        if done < 0 or not all(0 <= number < done for number in unreadable):
            return Made()
        return Made(done, unreadable, digest, notes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Made()


def save(path: Path, facts: Made) -> None:
    """Write what `made` reads; raises OSError."""
    write_whole(path.with_suffix(".json"), json.dumps(asdict(facts)))


def fill(
    path: Path,
    name: str,
    sources: Sequence[Source],
    shape: Shape,
    read: Callable[[Source], np.ndarray | str],
) -> Made:
    """Make the images of all sources, each uint8 of that shape, from where it was left.

    ``read`` gives an image, or in words why there is none. Raises Mistake when the disk lacks the room.
    """
    facts = made(path)
    size = prod(shape)
    path.touch()
    with path.open("r+b") as file:
        # a finished file is not filled again unless it is damaged
        if facts.digest or facts.done > len(sources) or file.seek(0, SEEK_END) < facts.rows * size:
            facts = Made()
        if facts.done == len(sources):
            return facts
        announce(path, name, len(sources) - facts.done, shape)
        file.truncate(facts.rows * size)
        file.seek(0, SEEK_END)
        try:
            _append(file, path, name, sources, read, facts)
        except OSError as error:
            raise Mistake(
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
    facts: Made,
) -> None:
    """Write the images of the sources that are not done; raises OSError."""
    last = time.monotonic()
    rest = sources[facts.done :]
    for image in side_by_side(read, rest, f"Preparing {name}", len(sources), facts.done):
        if isinstance(image, str):
            facts.unreadable[facts.done] = image
        else:
            file.write(image.tobytes())
        facts.done += 1
        if facts.done == len(sources) or time.monotonic() - last > SAVE_SECONDS:
            file.flush()  # first, so that no more is counted than is there
            save(path, facts)
            last = time.monotonic()


def announce(path: Path, name: str, count: int, shape: Shape) -> None:
    """Say what room so many images take; raises Mistake when the disk has less."""
    wanted, free = count * prod(shape), shutil.disk_usage(path.parent).free
    size = " x ".join(map(str, shape))
    if wanted > free:
        raise Mistake(
            f"The {count:,} images of {name} take {wanted / 1e6:,.0f} MB at {size} bytes each, but "
            f"{path.parent} has {free / 1e6:,.0f} MB free; make room, name another folder with "
            "cache_dir=..., or take a smaller dataset.side"
        )
    tqdm.write(
        f"Preparing {count:,} images of {name} at {size} bytes: {wanted / 1e6:,.1f} MB of disk in "
        f"{path.parent}, mapped from there and not held in memory",
        sys.stderr,
    )


def mapped(path: Path, count: int, shape: Shape) -> Tensor:
    """The first images of a file, uint8 [count, C, H, W], of which only what is looked at is read.

    They cannot be written to. Raises OSError or ValueError when the file has fewer.
    """
    images = np.memmap(path, np.uint8, "r", shape=(count, *shape))
    with warnings.catch_warnings(action="ignore"):  # torch says that they cannot be written to
        return torch.from_numpy(images)


def whole(path: Path, splits: Mapping[str, Pool], digest: str) -> bool:
    """Whether the pools mapped from a file have that digest; they are read once a process to tell.

    Raises OSError when the file is not there.
    """
    version = (path, path.stat().st_mtime_ns, digest)
    if version not in _whole and content_digest(splits) == digest:
        _whole.add(version)
    return version in _whole
