"""One training for several cells, which differ in how they are validated and tested.

Validations decide which parameters are kept as the best, never how training goes on. So a cell need not
be trained where another one was by the same steps: with that one's parameters at the steps of its
validations, it comes to the very row that a training of its own would have given.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bench import device as devices
from bench import tensors
from bench.cell import Cell, digest_of
from bench.files import write_whole
from bench.protocol import maker


def training_of(cell: Cell) -> str:
    """Return a digest that cells have in common whose training is the same, step by step.

    It is of what a cell's numbers depend on but the setting of its validations and its test, how many
    episodes these have, and the options that its learner needs for nothing else; and of the device and
    the number of threads, by which sums are rounded.
    """
    config = cell.config
    options = config.determining()
    for key in ("ways", "shots", "queries", "test"):
        del options[key]
    del options["validation"]["episodes"]
    for key in getattr(config.algo.resolve(), "test_options", ()):
        options["algo"].pop(key, None)
    shape = list(cell.train_shape)  # ways or shots of training may follow from those of the test
    machine = devices.describe(cell.device), config.threads or torch.get_num_threads()
    return digest_of(options, shape, cell.dataset.digest, cell.device.type, machine, maker(config))


class Kept:
    """The states of a training at its validations, a file each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, steps: list[int]) -> bool:
        """Whether the states at all of these steps are there, and whole."""
        with suppress(ValueError, OSError):
            return all(self.read(step) for step in steps)
        return False

    def read(self, step: int) -> dict[str, Any]:
        """The state at a step; raises ValueError and OSError."""
        state = tensors.read(self._path(step))
        if not (isinstance(state, dict) and "learner" in state):
            raise ValueError("it holds no training")
        return state

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Keep the state at a step; on a full disk, others have to train for themselves."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(step), tensors.to_bytes(state))

    def drop(self) -> None:
        """Remove all states, when no other cell needs them."""
        for path in self.folder.glob("*"):
            path.unlink(missing_ok=True)
        if self.folder.exists():
            self.folder.rmdir()

    def _path(self, step: int) -> Path:
        return self.folder / f"{step}.pt"
