"""The results folder: the only module that writes cells.

::

    results/
        runs/<cell>/record.json      one flat record: what was run, under which protocol, what came out
                    history.csv      one line a validation: episodes, seconds, train_loss, val_accuracy...
                    episodes.csv     accuracy (%), loss, calibration, classes of each test episode
                    probe.csv        accuracy under other conditions, after bench.probe
                    config.yaml      the whole configuration of the cell
                    checkpoint.pt    the selected parameters
                    progress.pt      where training stands, of a cell that has not ended
        accuracy.csv, throughput.csv, figures/ ...   views, written by bench.report from runs/ alone
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from bench import migrate
from bench.files import write_whole
from bench.mistake import Mistake

PROGRESS = "progress.pt"


class Store:
    """Reads and writes the cells under one results folder."""

    def __init__(self, results_dir: str | Path) -> None:
        self.root = Path(results_dir)
        self.runs = self.root / "runs"

    def check_writable(self) -> None:
        """Make the folder; raises Mistake when nothing can be written there."""
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.runs):
                pass
        except OSError as error:
            raise Mistake(
                f"Cannot write results to {self.root} ({error.strerror}); "
                "name a folder you may write to with results_dir=..."
            ) from None

    def record(self, cell: str) -> dict[str, Any] | None:
        """The record of a cell, migrated from older versions, or None when there is none."""
        stored = self._stored(cell)
        return migrate.record(stored) if isinstance(stored, dict) else stored

    def _stored(self, cell: str) -> Any:
        path = self.runs / cell / "record.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, cell: str, files: dict[str, str | bytes]) -> Path:
        """Write a cell's files, each whole or not at all; the record comes last and makes it count."""
        folder = self.runs / cell
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == "record.json"):
            write_whole(folder / name, files[name])
        (folder / PROGRESS).unlink(missing_ok=True)
        return folder

    def save_progress(self, cell: str, state: bytes) -> None:
        """Keep where training stands: the last such state is safe until this one is."""
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
        lock = FileLock(self._lock(cell))
        try:
            lock.acquire(blocking=False)
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
        with self.claim(cell) as free:
            return not free

    def _lock(self, cell: str) -> Path:
        return self.runs / f".{cell}.lock"

    def episodes(self, cell: str) -> pd.DataFrame:
        """The test episodes of a cell: one row an episode, in order."""
        return pd.read_csv(self.runs / cell / "episodes.csv")

    def config(self, cell: str) -> Any:
        """The configuration that a cell was run with, migrated from older versions.

        Raises ValueError when it cannot be read.
        """
        text = (self.runs / cell / "config.yaml").read_text(encoding="utf-8")
        try:
            return migrate.config(yaml.safe_load(text), (self._stored(cell) or {})["schema"])
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise ValueError(f"{cell}/config.yaml cannot be read: {error}") from None

    def trials(self, cell: str) -> pd.DataFrame | None:
        """What `bench.probe` found of a cell, if it was run."""
        path = self.runs / cell / "probe.csv"
        return pd.read_csv(path, dtype={"value": str}) if path.exists() else None

    def history(self, cell: str) -> pd.DataFrame:
        """The learning curve of a cell: one row a validation."""
        return pd.read_csv(self.runs / cell / "history.csv")
