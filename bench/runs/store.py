"""The results folder: the only module that writes cells.

::

    results/
        runs/<cell>/record.json      one flat record: configuration, protocol and results
                    history.csv      one line a validation: episodes, seconds, train_loss, val_score...
                    episodes.csv     score, loss, calibration, classes, groups of each test episode
                    photos.csv       in its place where a few classes are tested: each photograph
                    classes.csv      each test class: its accuracy, and what it is taken for
                    probe.csv        score under other conditions, after bench.probe
                    functions.csv    single functions and their predictions, of a regression
                    shift.csv        score on other data sets, after bench.probe datasets=...
                    config.yaml      the full configuration of the cell
                    model.json       what its learner is rebuilt from without its data set
                    model.safetensors    the selected parameters
                    checkpoint.pt    the state of training of an unfinished cell
        trainings/<digest>/          a training's parameters, while other cells need them
        accuracy.csv, throughput.csv, figures/ ...   views, written by bench.report from runs/ alone
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from filelock import FileLock, Timeout

from bench.core.atomic import Content, atomic_write, read_plain, replace_all
from bench.core.errors import StorageError, UserError
from bench.core.safe_yaml import plain_yaml
from bench.runs import records
from bench.tasks.base import MOST, Metric

if TYPE_CHECKING:
    import pandas as pd

CHECKPOINT = "checkpoint.pt"
ASKED_SECONDS = 1.0
"""Timeout of a claim, as a process that tests whether a cell is claimed holds its lock briefly."""
LOCKLESS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
MOST_BYTES = 2**24
"""Size limit of a record or a configuration."""
MOST_TABLE_BYTES = 2**28
"""Size limit of a table: some two million test episodes."""
EPISODES = ("score",)
CLASSES = ("accuracy", "ci95")
AS = "as "
"""What the columns of classes.csv begin with that say what a class is taken for."""
HISTORY = ("episodes", "seconds", "val_score", "val_ci95")
MOST_SECONDS = 1e15
COUNTED = ("steps", "shots", "ways")
"""Settings varied by `bench.probe` whose values are integers."""
TRIALS = ("queries", "episodes", "score", "ci95")
NAME = r"[\w.+-]{1,200}"
SHIFTS = ("episodes", "score", "ci95", "seen")


class Store:
    """Reads and writes the cells under one results folder."""

    def __init__(self, results_dir: str | Path) -> None:
        self.root = Path(results_dir)
        self.runs = self.root / "runs"
        self.trainings = self.root / "trainings"

    def check_writable(self) -> None:
        """Create the folder; raise UserError if it is not writable."""
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.runs) as file:
                file.write(bytes(4096))  # on a full disk, files can be created but not filled
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"Cannot write results to {self.root} ({error.strerror}); "
                "name a folder you may write to with results_dir=..."
            ) from None

    def record(self, cell: str) -> dict[str, Any] | None:
        """Return the record of a cell, or None if there is none.

        Raises:
            ValueError: The record is invalid.
        """
        if (stored := self.written(cell)) is None:
            return None
        checked = records.check(stored)
        if checked["cell"] != cell:
            raise ValueError(f"it is that of {checked['cell']}")
        return checked

    def written(self, cell: str) -> Any:
        """Return the record of a cell as its version wrote it, not validated; None without one."""
        path = self.runs / cell / "record.json"
        if not path.exists():
            return None
        try:
            return json.loads(read_plain(path, MOST_BYTES).decode())
        except RecursionError:
            raise ValueError("it is too deep") from None

    def written_at(self, cell: str) -> int | None:
        """Return the modification time of a cell's record, in nanoseconds; None without one."""
        path = self.runs / cell / "record.json"
        return path.stat().st_mtime_ns if path.exists() else None

    def write(self, cell: str, files: dict[str, Content]) -> Path:
        """Write a cell's files, all or none of them; the record comes last and makes them valid.

        Raises:
            StorageError: They cannot be written.
        """
        folder = self.runs / cell
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_all(folder, files, "record.json")
            (folder / CHECKPOINT).unlink(missing_ok=True)
            for left in folder.glob(".*"):  # temporary files of a process killed while writing
                left.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"Cannot write the results of {cell} to {folder} ({error.strerror}): fix this and run "
                "the same command again; it resumes from what was saved."
            ) from None
        return folder

    def save_checkpoint(self, cell: str, state: Content) -> None:
        """Replace the checkpoint; the last one is safe until the new one is. Raise OSError on failure."""
        folder = self.runs / cell
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / CHECKPOINT, state)

    def checkpoint(self, cell: str) -> Path | None:
        """Return the path of the checkpoint of an unfinished cell, or None."""
        path = self.runs / cell / CHECKPOINT
        return path if path.exists() else None

    @contextmanager
    def claim(self, cell: str) -> Iterator[bool]:
        """Lock a cell within the context; yield False if another process is running it."""
        self.runs.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock(cell))
        try:
            _acquire(lock, ASKED_SECONDS)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def running(self, cell: str) -> bool:
        """Return whether any process is running the cell."""
        if not self._lock(cell).exists():
            return False
        lock = FileLock(self._lock(cell))
        try:
            _acquire(lock, 0)
        except Timeout:
            return True
        lock.release()
        return False

    def _lock(self, cell: str) -> Path:
        return self.runs / f".{cell}.lock"

    def episodes(self, cell: str) -> pd.DataFrame:
        """Return the test episodes of a cell, one row each, in order; raise ValueError, OSError.

        Where a few classes were tested, the rows are their photographs.
        """
        if (self.runs / cell / "photos.csv").exists():
            return self._table(cell, "photos.csv", EPISODES, ("photo", "class"))
        return self._table(cell, "episodes.csv", EPISODES)

    def classes(self, cell: str) -> pd.DataFrame | None:
        """Return the accuracy of each test class of a cell; None if there are too many to tell.

        Raises:
            ValueError: The file is damaged.
            OSError: It cannot be read.
        """
        if not (self.runs / cell / "classes.csv").exists():
            return None
        table = self._table(cell, "classes.csv", CLASSES)
        said = [name for name in table if str(name).startswith(AS)]
        if len(said) != len(table) or any(table[name].dtype.kind not in "iuf" for name in said):
            raise ValueError("it has no number of answers of each class for each class")
        return table

    def history(self, cell: str) -> pd.DataFrame:
        """Return the learning curve of a cell, one row per validation; raise ValueError, OSError."""
        table = self._table(cell, "history.csv", HISTORY)
        _check_within(table, {"seconds": MOST_SECONDS, "val_ci95": MOST})
        self._check_scores(cell, table["val_score"])
        if (table["episodes"] < 0).any() or (table["episodes"].diff() <= 0).any():
            raise ValueError("its column episodes does not rise from line to line")
        if (table["seconds"].diff() < 0).any():
            raise ValueError("its column seconds falls")
        return table

    def trials(self, cell: str) -> pd.DataFrame | None:
        """Return the results of `bench.probe` for a cell, None if not run; raise ValueError, OSError."""
        if not (self.runs / cell / "probe.csv").exists():
            return None
        table = self._table(cell, "probe.csv", TRIALS, ("varied", "value"))
        _check_within(table, {"ci95": MOST, "episodes": 2**31, "queries": 2**31})
        self._check_scores(cell, table["score"])
        counted = table["varied"].isin(COUNTED)
        if not table.loc[counted, "value"].str.fullmatch("[1-9][0-9]{0,8}").fillna(False).all():
            raise ValueError(
                "its column value holds something other than a number of steps, shots or ways"
            )
        if table.duplicated(["varied", "value"]).any():
            raise ValueError("it has a trial twice")
        return table

    def shifts(self, cell: str) -> pd.DataFrame | None:
        """Return the results on other data sets, None if not tested; raise ValueError, OSError."""
        if not (self.runs / cell / "shift.csv").exists():
            return None
        table = self._table(cell, "shift.csv", SHIFTS, ("dataset", "data_digest"))
        _check_within(table, {"ci95": MOST, "seen": 100, "episodes": 2**31})
        self._check_scores(cell, table["score"])
        if not table["dataset"].str.fullmatch(NAME).fillna(False).all():
            raise ValueError("its column dataset holds something other than a name")
        if table["dataset"].duplicated().any():
            raise ValueError("it has a data set twice")
        return table

    def functions(self, cell: str) -> pd.DataFrame | None:
        """Return the functions drawn of a regression, None if there are none.

        Raises:
            ValueError: The file is damaged.
            OSError: It cannot be read.
        """
        if not (self.runs / cell / "functions.csv").exists():
            return None
        return self._table(cell, "functions.csv", ("task", "x", "y", "after"), ("part",))

    def _table(
        self, cell: str, name: str, numbers: tuple[str, ...], texts: tuple[str, ...] = ()
    ) -> pd.DataFrame:
        """Return a CSV file that has these columns; those in ``numbers`` are checked to be finite."""
        import pandas as pd  # late: half a second of each command

        content = read_plain(self.runs / cell / name, MOST_TABLE_BYTES)
        others = [name for name in pd.read_csv(BytesIO(content), nrows=0) if name not in texts]
        table = pd.read_csv(
            BytesIO(content),
            dtype=dict.fromkeys((*texts, "classes", "groups"), str),
            na_values={str(name): ["", "nan", "NaN"] for name in others},
            keep_default_na=False,  # NA may be the name of a class
        )
        for column in (*numbers, *texts):
            if column not in table:
                raise ValueError(f"it has no column {column}")
        for column in numbers:
            if table[column].dtype.kind not in "iuf" or not np.isfinite(table[column]).all():
                raise ValueError(f"its column {column} holds something other than a number")
        return table

    def _check_scores(self, cell: str, scores: pd.Series) -> None:
        """Raise ValueError if a score is none of the metric of the cell's record."""
        record = self.record(cell)
        if record is None:
            return
        metric = Metric.model_validate(record["metric"])
        if not all(map(metric.contains, scores)):
            raise ValueError(f"its column {scores.name} holds what no {metric.label} can be")

    def config(self, cell: str) -> Any:
        """Return the configuration that a cell was run with.

        Raises:
            ValueError: It cannot be read.
            OSError: It does not exist.
        """
        try:
            return plain_yaml(read_plain(self.runs / cell / "config.yaml", MOST_BYTES).decode())
        except (yaml.YAMLError, ValueError) as error:
            reason = str(error).split("\n", 1)[0]
            raise ValueError(f"{cell}/config.yaml cannot be read: {reason}") from None


def _acquire(lock: FileLock, timeout: float) -> None:
    """Acquire a lock.

    Raises:
        Timeout: Another process holds it.
        UserError: The file system does not support locks, as on some networks.
    """
    try:
        lock.acquire(timeout=timeout)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and (
            isinstance(error, Timeout) or error.errno not in LOCKLESS
        ):
            raise
        raise UserError(
            f"Cannot lock {lock.lock_file} ({error}): the disk lets no process lock a file, by which "
            "several keep out of each other's way; mount it with locks, or name a folder on another "
            "with results_dir=..."
        ) from None


def _check_within(table: pd.DataFrame, most: dict[str, float]) -> None:
    """Raise ValueError if a column has a value below zero or above its maximum in ``most``."""
    for column, highest in most.items():
        for value in table[column][(table[column] < 0) | (table[column] > highest)][:1]:
            raise ValueError(f"its column {column} holds {value:g}: it goes from 0 to {highest:g}")
