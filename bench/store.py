"""The results folder: the only module that writes cells.

::

    results/
        runs/<cell>/record.json      one flat record: what was run, under which protocol, what came out
                    history.csv      one line a validation: episodes, seconds, train_loss, val_accuracy...
                    episodes.csv     accuracy (%), loss, calibration, classes, groups of each test episode
                    probe.csv        accuracy under other conditions, after bench.probe
                    shift.csv        accuracy on other data sets, after bench.probe datasets=...
                    config.yaml      the whole configuration of the cell
                    checkpoint.pt    the selected parameters
                    progress.pt      where training stands, of a cell that has not ended
        trainings/<digest>/          a training's parameters, while other cells need them: see bench.kept
        accuracy.csv, throughput.csv, figures/ ...   views, written by bench.report from runs/ alone
"""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from filelock import FileLock, Timeout

from bench import migrate, records
from bench.files import Content, read_plain, replace_all, write_whole
from bench.mistake import Mistake, Unkept

PROGRESS = "progress.pt"
ASKED_SECONDS = 1.0
"""How long a claim may take: while another process asks whether a cell is claimed, it is."""
LOCKLESS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
MOST_BYTES = 2**24
"""Of a record or a configuration."""
MOST_TABLE_BYTES = 2**28
"""Of a table: some two million test episodes."""
EPISODES = ("accuracy",)
HISTORY = ("episodes", "seconds", "val_accuracy", "val_ci95")
MOST_SECONDS = 1e15
COUNTED = ("steps", "shots", "ways")
"""What is varied by `bench.probe` and has numbers as values."""
TRIALS = ("queries", "episodes", "accuracy", "ci95")
NAME = r"[\w.+-]{1,200}"
SHIFTS = ("episodes", "accuracy", "ci95", "seen")


class Store:
    """Reads and writes the cells under one results folder."""

    def __init__(self, results_dir: str | Path) -> None:
        self.root = Path(results_dir)
        self.runs = self.root / "runs"
        self.trainings = self.root / "trainings"

    def check_writable(self) -> None:
        """Make the folder; raises Mistake when nothing can be written there."""
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.runs) as file:
                file.write(bytes(4096))  # on a full disk, files can be made and not filled
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise Mistake(
                f"Cannot write results to {self.root} ({error.strerror}); "
                "name a folder you may write to with results_dir=..."
            ) from None

    def record(self, cell: str) -> dict[str, Any] | None:
        """The record of a cell, migrated from older versions, or None when there is none.

        Raises ValueError when it is not one.
        """
        if (stored := self.written(cell)) is None:
            return None
        try:
            checked = records.check(migrate.record(stored))
        except (KeyError, TypeError, AttributeError):  # too damaged to be migrated
            raise ValueError("it is no record") from None
        if checked["cell"] != cell:
            raise ValueError(f"it is that of {checked['cell']}")
        return checked

    def written(self, cell: str) -> Any:
        """What is in the record of a cell, unchecked, as its version wrote it; None without one."""
        path = self.runs / cell / "record.json"
        if not path.exists():
            return None
        try:
            return json.loads(read_plain(path, MOST_BYTES).decode())
        except RecursionError:
            raise ValueError("it is too deep") from None

    def written_at(self, cell: str) -> int | None:
        """When the record of a cell was written, in nanoseconds; None without one."""
        path = self.runs / cell / "record.json"
        return path.stat().st_mtime_ns if path.exists() else None

    def write(self, cell: str, files: dict[str, Content]) -> Path:
        """Write a cell's files, all or none of them; the record comes last and makes them count.

        Raises Unkept when they cannot be written.
        """
        folder = self.runs / cell
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_all(folder, files, "record.json")
            (folder / PROGRESS).unlink(missing_ok=True)
            for left in folder.glob(".*"):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
        except OSError as error:
            raise Unkept(
                f"Cannot write the results of {cell} to {folder} ({error.strerror}): mend that and run "
                "the same command again; it goes on from what was saved before."
            ) from None
        return folder

    def save_progress(self, cell: str, state: Content) -> None:
        """Keep where training stands: the last such state is safe until this one is. Raises OSError."""
        folder = self.runs / cell
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / PROGRESS, state)

    def progress(self, cell: str) -> Path | None:
        """The file with what was last saved of a cell that has not ended, if there is one."""
        path = self.runs / cell / PROGRESS
        return path if path.exists() else None

    @contextmanager
    def claim(self, cell: str) -> Iterator[bool]:
        """Whether this process may run the cell: not while another one does."""
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
        """Whether some process is at the cell."""
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
        """The test episodes of a cell: one row an episode, in order; raises ValueError, OSError."""
        return self._table(cell, "episodes.csv", EPISODES)

    def history(self, cell: str) -> pd.DataFrame:
        """The learning curve of a cell: one row a validation; raises ValueError, OSError."""
        table = self._table(cell, "history.csv", HISTORY)
        _check_within(table, {"seconds": MOST_SECONDS, "val_accuracy": 100, "val_ci95": 100})
        if (table["episodes"] < 0).any() or (table["episodes"].diff() <= 0).any():
            raise ValueError("its column episodes does not rise from line to line")
        if (table["seconds"].diff() < 0).any():
            raise ValueError("its column seconds falls")
        return table

    def trials(self, cell: str) -> pd.DataFrame | None:
        """What `bench.probe` found of a cell, if it was run; raises ValueError, OSError."""
        if not (self.runs / cell / "probe.csv").exists():
            return None
        table = self._table(cell, "probe.csv", TRIALS, ("varied", "value"))
        _check_within(table, {"accuracy": 100, "ci95": 100, "episodes": 2**31, "queries": 2**31})
        counted = table["varied"].isin(COUNTED)
        if not table.loc[counted, "value"].str.fullmatch("[1-9][0-9]{0,8}").fillna(False).all():
            raise ValueError("its column value holds what is no number of steps, shots or ways")
        if table.duplicated(["varied", "value"]).any():
            raise ValueError("it has a trial twice")
        return table

    def shifts(self, cell: str) -> pd.DataFrame | None:
        """How a cell did on other data sets, if that was tried; raises ValueError, OSError."""
        if not (self.runs / cell / "shift.csv").exists():
            return None
        table = self._table(cell, "shift.csv", SHIFTS, ("dataset", "data_digest"))
        _check_within(table, {"accuracy": 100, "ci95": 100, "seen": 100, "episodes": 2**31})
        if not table["dataset"].str.fullmatch(NAME).fillna(False).all():
            raise ValueError("its column dataset holds what is no name")
        if table["dataset"].duplicated().any():
            raise ValueError("it has a data set twice")
        return table

    def _table(
        self, cell: str, name: str, numbers: tuple[str, ...], texts: tuple[str, ...] = ()
    ) -> pd.DataFrame:
        """A CSV file that has these columns; ``numbers`` are finite."""
        content = read_plain(self.runs / cell / name, MOST_TABLE_BYTES)
        table = pd.read_csv(
            BytesIO(content), dtype=dict.fromkeys((*texts, "classes", "groups"), str)
        )
        for column in (*numbers, *texts):
            if column not in table:
                raise ValueError(f"it has no column {column}")
        for column in numbers:
            if table[column].dtype.kind not in "iuf" or not np.isfinite(table[column]).all():
                raise ValueError(f"its column {column} holds what is no number")
        return table

    def written_config(self, cell: str) -> Any:
        """The configuration of a cell as its version wrote it; raises ValueError, YAMLError, OSError."""
        return plain_yaml(read_plain(self.runs / cell / "config.yaml", MOST_BYTES).decode())

    def config(self, cell: str) -> Any:
        """The configuration that a cell was run with, migrated from older versions.

        Raises ValueError when it cannot be read, OSError when it is not there.
        """
        try:
            schema = (self.written(cell) or {})["schema"]
            return migrate.config(self.written_config(cell), schema)
        except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).split("\n", 1)[0]
            raise ValueError(f"{cell}/config.yaml cannot be read: {reason}") from None


def _acquire(lock: FileLock, timeout: float) -> None:
    """Hold a lock; raises Timeout, and Mistake where the disk has none to give, as some of a network."""
    try:
        lock.acquire(timeout=timeout)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and (
            isinstance(error, Timeout) or error.errno not in LOCKLESS
        ):
            raise
        raise Mistake(
            f"Cannot lock {lock.lock_file} ({error}): the disk lets no process lock a file, by which "
            "several keep out of each other's way; mount it with locks, or name a folder on another "
            "with results_dir=..."
        ) from None


def _check_within(table: pd.DataFrame, most: dict[str, float]) -> None:
    """Raises ValueError where a column has a number below zero, or above what it can be at most."""
    for column, highest in most.items():
        for value in table[column][(table[column] < 0) | (table[column] > highest)][:1]:
            raise ValueError(f"its column {column} holds {value:g}: it goes from 0 to {highest:g}")


class _Loader(yaml.SafeLoader):
    """YAML without references, by which a short text can stand for a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has references")
        return super().compose_node(parent, index)


def plain_yaml(text: str) -> Any:
    """What a YAML text without references holds; raises YAMLError or ValueError."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("it is too deep") from None
