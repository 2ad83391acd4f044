"""Which published cells are to be run, what a run of each is worth, and which comes next."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bench import tensors
from bench.reproduce.published import Published, forecast_of
from bench.store import Store

SEEDS = (0, 1, 2)
"""What a cell is run with where nobody says otherwise; of a long one the first alone."""
LONG_SECONDS = 2 * 3600.0
FIRST, UNDECIDED, DECIDED = 1.0, 0.5, 0.25
"""What a run is worth: the first of a cell, another of one without a verdict, of one with a verdict."""


@dataclass
class Campaign:
    """Published cells, of which the next is the one that is worth most an hour.

    ``given`` are the seeds that were asked for; None: as many as the time of a cell allows.
    ``verdicts`` tells of the experiments that have any runs whether these decide. ``passed`` are runs
    that cannot be run now: another process is at them, or they are damaged.
    """

    store: Store
    cells: list[Published]
    given: Sequence[int] | None
    verdicts: dict[str, bool] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)

    def seeds(self, cell: Published) -> Sequence[int]:
        """The seeds that a cell shall be run with."""
        if self.given is not None:
            return self.given
        training, evaluation = cell.times
        seconds = training / len(self.sharing(cell)) + evaluation
        return SEEDS if seconds <= LONG_SECONDS else SEEDS[:1]

    def sharing(self, cell: Published) -> list[Published]:
        """The cells that have the same training, this one among them."""
        return [each for each in self.cells if each.trainings == cell.trainings]

    def left(self) -> list[tuple[Published, int]]:
        """The runs that have neither ended nor failed, from the most to the least valuable an hour."""
        runs = [
            (cell, seed)
            for cell in self.cells
            for seed in self.seeds(cell)
            if self.lacks(cell, seed) and cell.names[seed] not in self.passed
        ]
        value = {cell.names[seed]: self.value_per_second(cell, seed) for cell, seed in runs}
        return sorted(runs, key=lambda run: -value[run[0].names[run[1]]])

    def next(self) -> tuple[Published, int] | None:
        """The run that is worth most an hour, by a forecast; None when nothing is left."""
        while runs := self.left():
            cell, seed = runs[0]
            if cell.forecast is not None:
                return cell, seed
            for each in self.sharing(cell):
                each.forecast = forecast_of(self.store, each)
        return None

    def value_per_second(self, cell: Published, seed: int) -> float:
        """What the rest of a run is worth, and what others of the same training are with it."""
        trained = self.is_trained(cell, seed)
        those = [cell] if trained else [c for c in self.sharing(cell) if self.lacks(c, seed)]
        seconds = 0.0 if trained else self.training_left(cell, seed)
        seconds += sum(each.times.evaluation for each in those)
        return sum(map(self.value, those)) / max(0.001, seconds)

    def value(self, cell: Published) -> float:
        """What a run of a cell is worth."""
        if cell.claim.experiment not in self.verdicts:
            return FIRST
        return DECIDED if self.verdicts[cell.claim.experiment] else UNDECIDED

    def lacks(self, cell: Published, seed: int) -> bool:
        """Whether a run has neither ended nor failed."""
        return self.store.written_at(cell.names[seed]) is None

    def is_trained(self, cell: Published, seed: int) -> bool:
        """Whether another cell was trained by the same steps, which need not be done again."""
        others = [each for each in self.sharing(cell) if each is not cell]
        kept = (self.store.trainings / cell.trainings[seed]).exists()
        return kept and any(not self.lacks(each, seed) for each in others)

    def remaining(self, cell: Published, seed: int) -> float:
        """Seconds that are left of a run, which may have been begun."""
        training = 0.0 if self.is_trained(cell, seed) else self.training_left(cell, seed)
        return training + cell.times.evaluation

    def training_left(self, cell: Published, seed: int) -> float:
        """Seconds that are left of its own training."""
        return cell.times.training * (1 - self.step(cell, seed) / cell.steps)

    def step(self, cell: Published, seed: int) -> int:
        """The outer step that the saved training of a run is at."""
        with suppress(ValueError, OSError, KeyError, TypeError):
            if path := self.store.progress(cell.names[seed]):
                return min(cell.steps, int(tensors.read(path)["training"]["loop"]["step"]))
        return 0
