"""Baselines without training (floors) on the same test episodes.

Learners that need no training, such as the nearest centroid of the pixels, are run once for each
data set and setting of a run or sweep, in its main process, after the cells and before the report.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace

from bench.config.compose import composed
from bench.config.groups import names, no_such
from bench.config.schema import Config
from bench.core.errors import RunFailedError, UserError
from bench.engine.distributed import SINGLE_PROCESS
from bench.runs import cell as cells
from bench.runs import run as running
from bench.runs.cell import Cell
from bench.runs.records import score_text

OWN = ("algo", "backbone", "seed")
"""Keys that a floor sets itself; its test and its machine are those of the learners."""


def of(cell: Cell) -> list[Cell]:
    """Return the floors of a checked cell, checked; raise UserError if one is trainable or unknown."""
    found = []
    for name in cell.config.floors:
        if name not in names("algo"):
            raise no_such(f"algo/{name}")
        config = config_of(cell.config, name)
        encoding = cell.dataset.encoding
        if cell.dataset.has_texts and encoding and encoding.encoder.pretrained:
            # the floor of learners on features is what those achieve by themselves
            config = config.model_copy(update={"backbone": cell.config.backbone})
        if cells.build_learner(config, cell.dataset, cell.test_setting).trainable:
            raise UserError(
                f"floors=[{name}] is invalid: {name} is trained. A floor, such as nearest, is not."
            )
        found.append(replace(cells.check(config, cell.dataset), world=SINGLE_PROCESS))
    return found


def config_of(config: Config, name: str) -> Config:
    """Return the configuration of a floor with the test setting of a cell."""
    known = [f"dataset={config.dataset.name}"] * (config.dataset.name in names("dataset"))
    own = Config.model_validate(composed(f"algo={name}", *known))
    shape = config.train.model_dump(include={"ways", "shots", "queries"})
    update = {key: getattr(own, key) for key in OWN}
    update |= {"train": own.train.model_copy(update=shape), "validation": own.validation}
    update |= {"tune": None, "tuned": None, "logger": None, "floors": []}
    return config.model_copy(update=update)


def run(configs: Iterable[Config]) -> None:
    """Run the floors that have no record yet; the record of one that fails says why."""
    for config in configs:
        cell = replace(cells.check(config), world=SINGLE_PROCESS)
        if cell.existing_record():
            continue
        with cell.store.claim(cell.name) as mine:
            if not mine:  # another sweep into this folder is running it
                continue
            try:
                record = running.run(cell)
            except RunFailedError as failed:
                print(f"{cell.name}, a floor, failed: {failed}", file=sys.stderr)
                running.fail(cell, str(failed))
            else:
                print(f"{cell.name} is finished: {score_text(record)}", flush=True)
