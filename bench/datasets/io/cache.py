"""Locations of archives, and the cache of prepared data sets."""

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from bench.core import serialization
from bench.core.atomic import atomic_write
from bench.core.errors import UserError
from bench.tasks.pool import Dataset, Pool

log = logging.getLogger(__name__)

LOCK_SECONDS = 600.0


@dataclass(frozen=True)
class DataDirs:
    """The data folders: ``archives`` has the user's raw data, read-only; ``cache`` is writable."""

    archives: Path
    cache: Path

    @classmethod
    def of(cls, data_root: str | None = None, cache_dir: str | None = None) -> "DataDirs":
        """Return the folders for these options.

        ``archives`` is ``data_root``, else the value of BENCH_DATA, else the cache; ``cache`` is
        ``cache_dir``, else the user's cache folder.
        """
        cache = Path(cache_dir or user_cache_dir("fewshot-bench"))
        return cls(Path(data_root or os.environ.get("BENCH_DATA") or cache), cache)

    def find(self, archive: str) -> Path | None:
        """Return the file of that relative name, from the user's folder or an earlier download."""
        paths = (self.archives / archive, self.cache / archive)
        return next((path for path in paths if path.exists()), None)


def cached(folder: Path, name: str, recipe: bytes, make: Callable[[], Dataset]) -> Dataset:
    """Return the prepared data set ``name``, from ``folder`` if it is there and intact.

    Otherwise it is built by ``make``. ``recipe`` is everything that the content depends on: another
    recipe uses another file. Concurrent processes wait for one of them to build it. A folder that
    cannot be written is a warning, not an error.

    Raises:
        UserError: If waiting takes more than ``LOCK_SECONDS``.
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
    """Do what `cached` does, for data sets in files of another format.

    ``read`` returns the data set of such a file, if it is valid; ``make`` writes it there, or
    nowhere (None).
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
        raise UserError(
            f"Another process has been preparing {name} for more than {LOCK_SECONDS:.0f} s "
            f"(it holds {lock.lock_file}); wait for it or end it, then start again"
        ) from None
    except OSError as error:
        warn_unkept(name, folder, error)
        return make(None)
    try:
        # another process may have built it while this one waited
        return read(path) or make(path)
    finally:
        lock.release()


def read(path: Path) -> Dataset | None:
    """Return the data set in a file, or None if there is none or the file is damaged."""
    if not path.exists():
        return None
    try:
        name, digest, splits = serialization.read(path)
        dataset = Dataset.of(name, {split: Pool(*fields) for split, fields in splits.items()})
        if dataset.digest == digest:
            return dataset
    except Exception as error:
        log.debug("%s: %r", path, error)
    log.warning("%s is damaged and is prepared anew", path)
    return None


def keep(path: Path, dataset: Dataset) -> Dataset:
    """Write a data set for later runs, and return it."""
    splits = {key: (pool.inputs, pool.offsets, pool.names) for key, pool in dataset.splits.items()}
    try:
        atomic_write(path, serialization.to_bytes((dataset.name, dataset.digest, splits)))
    except OSError as error:
        warn_unkept(dataset.name, path.parent, error)
    return dataset


def warn_unkept(name: str, folder: Path, error: OSError) -> None:
    """Warn that the next run has to do the same work again."""
    log.warning("Cannot keep %s in %s (%s); every run prepares it anew", name, folder, error)
