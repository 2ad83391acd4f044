"""Where archives are found, and where prepared data sets are kept."""

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from bench import tensors
from bench.data.pool import Dataset, Pool
from bench.files import write_whole
from bench.mistake import Mistake

log = logging.getLogger(__name__)

LOCK_SECONDS = 600.0


@dataclass(frozen=True)
class Folders:
    """``archives`` is where the user keeps raw data, only ever read; ``cache`` is ours to write."""

    archives: Path
    cache: Path

    @classmethod
    def of(cls, data_root: str | None = None, cache_dir: str | None = None) -> "Folders":
        """``data_root``, else what BENCH_DATA names, else the cache: ``cache_dir``, else the user's."""
        cache = Path(cache_dir or user_cache_dir("fewshot-bench"))
        return cls(Path(data_root or os.environ.get("BENCH_DATA") or cache), cache)

    def find(self, archive: str) -> Path | None:
        """The file of that relative name, from the user's folder or an earlier download."""
        paths = (self.archives / archive, self.cache / archive)
        return next((path for path in paths if path.exists()), None)


def cached(folder: Path, name: str, recipe: bytes, make: Callable[[], Dataset]) -> Dataset:
    """The prepared data set ``name``, from ``folder`` when it is there and whole, else from ``make``.

    ``recipe`` is all that the content depends on: with another recipe, another file is used.
    Processes that ask at the same time wait for one of them to make it; raises Mistake when that
    takes more than ``LOCK_SECONDS``. A folder that cannot be written is a warning, not an error.
    """

    def make_at(path: Path | None) -> Dataset:
        return keep(path, make()) if path else make()

    return prepared(folder, name, recipe, ".pt", read, make_at)


def prepared(
    folder: Path,
    name: str,
    recipe: bytes,
    suffix: str,
    read: Callable[[Path], Dataset | None],
    make: Callable[[Path | None], Dataset],
) -> Dataset:
    """`cached` for data sets in files of another kind.

    ``read`` looks for the data set in such a file; ``make`` writes it there, or nowhere (None).
    """
    folder = folder / "prepared"
    path = folder / f"{name}-{hashlib.sha256(recipe).hexdigest()[:16]}{suffix}"
    if ready := read(path):
        return ready
    lock = FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise Mistake(
            f"Another process has been preparing {name} for more than {LOCK_SECONDS:.0f} s "
            f"(it holds {lock.lock_file}); wait for it or end it, then start again"
        ) from None
    except OSError as error:
        warn_unkept(name, folder, error)
        return make(None)
    try:
        # another process may have made it while this one waited
        return read(path) or make(path)
    finally:
        lock.release()


def read(path: Path) -> Dataset | None:
    """The data set in a file, or None when there is none or its content is not what was written."""
    if not path.exists():
        return None
    try:
        name, digest, splits = tensors.read(path)
        dataset = Dataset.of(name, {split: Pool(*fields) for split, fields in splits.items()})
        if dataset.digest == digest:
            return dataset
    except Exception as error:
        log.debug("%s: %r", path, error)
    log.warning("%s is damaged and is prepared anew", path)
    return None


def keep(path: Path, dataset: Dataset) -> Dataset:
    """Write a data set for later runs, and hand it on."""
    splits = {key: (pool.images, pool.offsets, pool.names) for key, pool in dataset.splits.items()}
    try:
        write_whole(path, tensors.to_bytes((dataset.name, dataset.digest, splits)))
    except OSError as error:
        warn_unkept(dataset.name, path.parent, error)
    return dataset


def warn_unkept(name: str, folder: Path, error: OSError) -> None:
    """Say that the next run has to do the same work again."""
    log.warning("Cannot keep %s in %s (%s); every run prepares it anew", name, folder, error)
