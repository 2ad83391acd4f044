"""Scheduling of published cells: which ones to run, the value of each run, and the next one."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bench.core import serialization
from bench.runs.store import Store
from bench.sweep.reproduce.published import Published, forecast_of

SEEDS = (0, 1, 2)
"""Default seeds of a cell; a long one is run with the first alone."""
LONG_SECONDS = 2 * 3600.0
FIRST, UNDECIDED, DECIDED = 1.0, 0.5, 0.25
"""Values of runs: the first one of a cell, and further ones of a cell without and with a verdict."""


@dataclass
class Campaign:
    """Published cells, run in order of value per hour.

    ``given`` are the requested seeds; None: as many as the duration of a cell allows. ``verdicts``
    maps experiments that have any runs to whether these decide. ``passed`` are runs that cannot be
    run now: they are being run by another process, or damaged.
    """

    store: Store
    cells: list[Published]
    given: Sequence[int] | None
    verdicts: dict[str, bool] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)

    def seeds(self, cell: Published) -> Sequence[int]:
        """Return the seeds that a cell is to be run with."""
        if self.given is not None:
            return self.given
        training, evaluation = cell.times
        seconds = training / len(self.sharing(cell)) + evaluation
        return SEEDS if seconds <= LONG_SECONDS else SEEDS[:1]

    def sharing(self, cell: Published) -> list[Published]:
        """Return the cells that have the same training, including this one."""
        return [each for each in self.cells if each.trainings == cell.trainings]

    def left(self) -> list[tuple[Published, int]]:
        """Return the runs that have neither finished nor failed, by decreasing value per hour."""
        runs = [
            (cell, seed)
            for cell in self.cells
            for seed in self.seeds(cell)
            if self.lacks(cell, seed) and cell.names[seed] not in self.passed
        ]
        value = {cell.names[seed]: self.value_per_second(cell, seed) for cell, seed in runs}
        return sorted(runs, key=lambda run: -value[run[0].names[run[1]]])

    def next(self) -> tuple[Published, int] | None:
        """Return the run with the highest forecast value per hour; None if nothing is left."""
        while runs := self.left():
            cell, seed = runs[0]
            if cell.forecast is not None:
                return cell, seed
            for each in self.sharing(cell):
                each.forecast = forecast_of(self.store, each)
        return None

    def value_per_second(self, cell: Published, seed: int) -> float:
        """Return the value per second of the rest of a run and of others that share its training."""
        trained = self.is_trained(cell, seed)
        those = [cell] if trained else [c for c in self.sharing(cell) if self.lacks(c, seed)]
        seconds = 0.0 if trained else self.training_left(cell, seed)
        seconds += sum(each.times.evaluation for each in those)
        return sum(map(self.value, those)) / max(0.001, seconds)

    def value(self, cell: Published) -> float:
        """Return the value of a run of a cell."""
        if cell.claim.experiment not in self.verdicts:
            return FIRST
        return DECIDED if self.verdicts[cell.claim.experiment] else UNDECIDED

    def lacks(self, cell: Published, seed: int) -> bool:
        """Return whether a run has neither finished nor failed."""
        return self.store.written_at(cell.names[seed]) is None

    def is_trained(self, cell: Published, seed: int) -> bool:
        """Return whether another cell has done the same training, so it need not be repeated."""
        others = [each for each in self.sharing(cell) if each is not cell]
        kept = (self.store.trainings / cell.trainings[seed]).exists()
        return kept and any(not self.lacks(each, seed) for each in others)

    def remaining(self, cell: Published, seed: int) -> float:
        """Return the remaining seconds of a run, which may have been started."""
        training = 0.0 if self.is_trained(cell, seed) else self.training_left(cell, seed)
        return training + cell.times.evaluation

    def training_left(self, cell: Published, seed: int) -> float:
        """Return the remaining seconds of its own training."""
        return cell.times.training * (1 - self.step(cell, seed) / cell.steps)

    def step(self, cell: Published, seed: int) -> int:
        """Return the outer step of a run's checkpoint, 0 without one."""
        with suppress(ValueError, OSError, KeyError, TypeError):
            if path := self.store.checkpoint(cell.names[seed]):
                return min(cell.steps, int(serialization.read(path)["training"]["loop"]["step"]))
        return 0
