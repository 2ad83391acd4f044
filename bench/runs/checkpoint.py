"""Checkpoints of a training in progress, from which the same command resumes."""

import sys
import time
from typing import Any

from tqdm import tqdm

from bench.core import serialization
from bench.engine.train import Training
from bench.runs.cell import Cell
from bench.runs.protocol import code_fingerprint

SAVE_SECONDS = 10.0
"""Interval between two checkpoints: an upper bound, roughly, of the training time lost in a crash."""


class Checkpointer:
    """Saves and restores the training of a cell.

    ``begun`` is when this process began the cell, in seconds of `time.monotonic`;
    ``elapsed_before`` is the time in seconds that earlier processes spent on it, up to their last
    checkpoint.
    """

    def __init__(self, cell: Cell, training: Training, begun: float) -> None:
        self.cell, self.training, self.begun = cell, training, begun
        self.elapsed_before = 0.0
        self.last = begun
        self.fingerprint = list(code_fingerprint(cell.config))

    def resume(self) -> None:
        """Restore the training from the checkpoint, unless another version of the code wrote it."""
        cell, loop = self.cell, self.training.loop
        if stored := cell.world.broadcast(self._load_compatible):
            self.training.load_state_dict(stored["training"])
            self.elapsed_before = stored["elapsed"]
            print(f"{cell.name} resumes at step {loop.step:,} of {loop.steps:,}")
        self.last = time.monotonic()

    def _load_compatible(self) -> Any:
        """Return the checkpoint, or None if there is none or another version of the code wrote it."""
        stored = load_checkpoint(self.cell)
        if stored and stored["fingerprint"] != self.fingerprint:
            print(f"{self.cell.name} restarts: its checkpoint is of another version of the code")
            return None
        return stored

    def should_save(self) -> bool:
        """Return whether it is time to save again."""
        return time.monotonic() - self.last > SAVE_SECONDS

    def save(self) -> None:
        """Save a checkpoint in the main process; write errors are only reported."""
        self.last = time.monotonic()
        if not self.cell.world.is_main:
            return
        elapsed = self.elapsed_before + self.last - self.begun
        state = {
            "fingerprint": self.fingerprint,
            "training": self.training.state_dict(),
            "elapsed": elapsed,
        }
        try:
            self.cell.store.save_checkpoint(self.cell.name, serialization.to_bytes(state))
        except OSError as error:  # space may be freed, and the last checkpoint is intact
            tqdm.write(f"{self.cell.name} could not be saved ({error.strerror})", sys.stderr)


def load_checkpoint(cell: Cell) -> Any:
    """Return the last checkpoint of the cell, or None if there is none or it is unreadable."""
    path = cell.store.checkpoint(cell.name)
    try:
        found = path and serialization.read(path)
        if path and not (isinstance(found, dict) and {"fingerprint", "training"} <= set(found)):
            raise ValueError("it holds no training")
        return found
    except (ValueError, OSError) as error:
        print(f"{cell.name} restarts: {path} is damaged ({error})")
        return None
