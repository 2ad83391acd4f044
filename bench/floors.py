"""The floor under every comparison: learners without training, on the same test episodes.

What needs no training, such as the nearest centroid of the pixels, is run once for each data set and
setting that a run or sweep has, by its own process at its end, before the report.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace

from bench import cell as cells
from bench import running
from bench.cell import Cell
from bench.compose import composed
from bench.config import Config
from bench.mistake import Failed, Mistake
from bench.usage import names, no_such
from bench.world import ALONE

OWN = ("algo", "backbone", "seed")
"""What a floor has of its own; its test and its machine are those of the learners."""


def of(cell: Cell) -> list[Cell]:
    """Return the floors of a checked cell, checked; raises Mistake where one is no floor."""
    found = []
    for name in cell.config.floors:
        if name not in names("algo"):
            raise no_such(f"algo/{name}")
        config = config_of(cell.config, name)
        if cells.build_learner(config, cell.dataset, config.ways).trainable:
            raise Mistake(
                f"floors=[{name}] is not possible: {name} is trained. A floor, such as nearest, is not."
            )
        found.append(replace(cells.check(config, cell.dataset), world=ALONE))
    return found


def config_of(config: Config, name: str) -> Config:
    """Return the configuration of a floor that is tested as a cell is."""
    own = Config.model_validate(composed(f"algo={name}"))
    shape = config.train.model_dump(include={"ways", "shots", "queries"})
    update = {key: getattr(own, key) for key in OWN}
    update |= {"train": own.train.model_copy(update=shape), "validation": own.validation}
    update |= {"tune": None, "tuned": None, "logger": None, "floors": []}
    return config.model_copy(update=update)


def run(configs: Iterable[Config]) -> None:
    """Run the floors that have no record yet; one that fails is a record that says why."""
    for config in configs:
        cell = replace(cells.check(config), world=ALONE)
        if cell.standing():
            continue
        with cell.store.claim(cell.name) as mine:
            if not mine:  # another sweep into this folder is at it
                continue
            try:
                record = running.run(cell)
            except Failed as failed:
                print(f"{cell.name}, a floor, failed: {failed}", file=sys.stderr)
                running.fail(cell, str(failed))
            else:
                accuracy, ci95 = record["accuracy"], record["ci95"]
                print(f"{cell.name} is finished: {accuracy:.1f} ± {ci95:.1f} %", flush=True)
