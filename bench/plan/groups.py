"""What a sweep has to run: cells that are alike, and the trials that find their options."""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import ValidationError

from bench.config import Config
from bench.mistake import Mistake
from bench.report.rows import Row
from bench.status import checked

if TYPE_CHECKING:  # torch takes seconds to load, which a mistake need not wait for
    from bench.cell import Cell
    from bench.tuning import Study


class Group(NamedTuple):
    """Cells of the sweep, on one type of device, that differ in the seed alone; or trials of a study.

    ``total`` is how many there are, ``left`` how many are to be run; ``facts`` are those of their
    rows. Of a study ``at_once`` trials run side by side, and the next when they have ended; it is 0
    for cells, which need not wait for each other.
    """

    device: str
    overrides: list[str]
    facts: dict[str, Any]
    total: int
    left: int
    at_once: int = 0

    @property
    def label(self) -> list[str]:
        """What a line of the table names."""
        return [*self.overrides, *(["(trials)"] if self.at_once else [])]


def grouped(sweep: list[list[str]], devices: Collection[str]) -> list[Group]:
    """The cells of a sweep without their seeds, and the trials before them.

    Of each group one cell is checked as `bench` does; the others have but another name. Raises Mistake
    and what Hydra raises.
    """
    seeds: dict[tuple[str, ...], list[list[str]]] = {}
    for overrides in sweep:
        alike = tuple(o for o in overrides if not o.startswith("seed="))
        seeds.setdefault(alike, []).append(overrides)
    groups: list[Group] = []
    studies: set[str] = set()
    for alike, members in seeds.items():
        cell = checked(members[0])
        for device in (each for each in devices if cell.config.device in ("auto", each)):
            if cell.config.tune:
                groups += tuned(cell, device, list(alike), members, studies)
            else:
                groups.append(group_of(cell, device, list(alike), members))
    return groups


def tuned(
    cell: "Cell", device: str, alike: list[str], members: list[list[str]], studies: set[str]
) -> list[Group]:
    """The same where options are found by trials, which come first, once a study; raises Mistake."""
    from bench import tuning  # imports optuna, which only this needs

    for overrides in members:
        tuning.check_seed(seeded(cell.config, overrides))
    study = tuning.Study.of(members[0], on(tuning.check(cell), device))
    study.check_maker()
    if study.finished:
        return [group_of(checked([*members[0], *study.found()]), device, alike, members)]
    cells = group_of(cell, device, alike, members)._replace(left=len(members))
    trials = [] if study.name in studies else [trials_of(study, cells)]
    studies.add(study.name)
    return [*trials, cells]


def on(cell: "Cell", device: str) -> "Cell":
    """The same cell on a type of device that this machine may lack."""
    import torch

    return replace(cell, device=torch.device(device))


def group_of(cell: "Cell", device: str, alike: list[str], members: list[list[str]]) -> Group:
    """Cells that are like a checked one, but for the seeds that their overrides give; raises Mistake."""
    from bench import cell as cells
    from bench.protocol import card

    learner = cells.build_learner(cell.config, cell.dataset, cell.train_shape.ways)
    facts = card(cell, learner) | {"episodes": cell.config.test.episodes}
    left = 0
    for overrides in members:
        config = seeded(cell.config, overrides)
        name = cells.name_of(config, cell.dataset, device)
        if not config.overwrite:
            cells.check_stored(cell.store, name)
        left += is_left(cell.store.record(name), config)
    return Group(device, alike, facts, len(members), left)


def trials_of(study: "Study", cells: Group) -> Group:
    """The trials of a study that find the options of these cells; they are not tested."""
    tune = study.tune
    facts = cells.facts | {"train_images": tune.images}
    del facts["episodes"]
    left = tune.trials - study.ended
    return cells._replace(facts=facts, total=tune.trials, left=left, at_once=tune.at_once)


def seeded(options: Config, overrides: list[str]) -> Config:
    """The same cell with the seed that overrides give; raises Mistake."""
    given = [o.partition("=")[2] for o in overrides if o.startswith("seed=")]
    if not given:
        return options
    try:
        return Config.model_validate(options.model_dump() | {"seed": yaml.safe_load(given[-1])})
    except (ValidationError, yaml.YAMLError):
        raise Mistake(
            f"seed={given[-1]} is not possible: it should be a number from 0 on."
        ) from None


def is_left(record: Row | None, options: Config) -> bool:
    """Whether the sweep's command would run the cell of this record."""
    again = record and record["status"] == "failed" and options.retry_failed
    return record is None or options.overwrite or bool(again)
