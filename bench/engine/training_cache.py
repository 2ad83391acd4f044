"""Cache of a training that is shared by cells which differ only in validation and test.

Validations decide which parameters are selected as the best, never how training proceeds. So a cell
need not be trained if another one took the same steps: from the other's parameters at the steps of
its validations, it gets exactly the row that its own training would have given.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.core import serialization
from bench.core.atomic import atomic_write


class TrainingCache:
    """The states of one training at its validations, one file each in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, steps: list[int]) -> bool:
        """Return whether the states at all of these steps are present and intact."""
        with suppress(ValueError, OSError):
            return all(self.read(step) for step in steps)
        return False

    def read(self, step: int) -> dict[str, Any]:
        """Return the state at a step; raise ValueError if damaged and OSError if unreadable."""
        state = serialization.read(self._path(step))
        if not (isinstance(state, dict) and "learner" in state):
            raise ValueError("it holds no training")
        return state

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Store the state at a step; if the disk is full, other cells have to train themselves."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(self._path(step), serialization.to_bytes(state))

    def drop(self) -> None:
        """Remove all states, once no other cell needs them."""
        for path in self.folder.glob("*"):
            path.unlink(missing_ok=True)
        if self.folder.exists():
            self.folder.rmdir()

    def _path(self, step: int) -> Path:
        return self.folder / f"{step}.pt"
