"""A training that is saved as it goes, so that the same command goes on with it."""

import sys
import time
from typing import Any

from tqdm import tqdm

from bench import tensors
from bench.cell import Cell
from bench.protocol import maker
from bench.train import Training

SAVE_SECONDS = 10.0
"""A training is saved when so much time has passed since it last was, so that no more is lost."""


class Progress:
    """How far the training of a cell has come, on disk.

    ``begun`` is when this process began with the cell, in seconds of `time.monotonic`; ``earlier`` is
    the seconds that earlier processes spent on it, up to when they last saved it.
    """

    def __init__(self, cell: Cell, training: Training, begun: float) -> None:
        self.cell, self.training, self.begun = cell, training, begun
        self.earlier = 0.0
        self.last = begun
        self.maker = list(maker(cell.config))

    def resume(self) -> None:
        """Bring the training to where it was saved, unless by another version of the code."""
        cell, loop = self.cell, self.training.loop
        if stored := cell.world.from_first(self._ours):
            self.training.load_state_dict(stored["training"])
            self.earlier = stored["elapsed"]
            print(f"{cell.name} goes on from step {loop.step:,} of {loop.steps:,}")
        self.last = time.monotonic()

    def _ours(self) -> Any:
        """What was saved, if by this version of the code."""
        stored = saved(self.cell)
        if stored and stored["maker"] != self.maker:
            print(f"{self.cell.name} starts anew: what was saved of it is by another version")
            return None
        return stored

    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self.last > SAVE_SECONDS

    def save(self) -> None:
        """Save the training, if this is the process that writes; a full disk is only told of."""
        self.last = time.monotonic()
        if not self.cell.world.first:
            return
        elapsed = self.earlier + self.last - self.begun
        state = {"maker": self.maker, "training": self.training.state_dict(), "elapsed": elapsed}
        try:
            self.cell.store.save_progress(self.cell.name, tensors.to_bytes(state))
        except OSError as error:  # room may come, and what was saved before is safe
            tqdm.write(f"{self.cell.name} could not be saved ({error.strerror})", sys.stderr)


def saved(cell: Cell) -> Any:
    """What was last saved of the cell, if it can be read."""
    path = cell.store.progress(cell.name)
    try:
        found = path and tensors.read(path)
        if path and not (isinstance(found, dict) and {"maker", "training"} <= set(found)):
            raise ValueError("it holds no training")
        return found
    except (ValueError, OSError) as error:
        print(f"{cell.name} starts anew: {path} is damaged ({error})")
        return None
