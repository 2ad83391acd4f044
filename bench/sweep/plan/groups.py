"""Work of a sweep: groups of cells that differ only in the seed, and the trials that tune them."""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import ValidationError

from bench.config.schema import Config
from bench.core.errors import UserError
from bench.report.rows import Row
from bench.sweep.status import checked

if TYPE_CHECKING:  # importing torch takes seconds; a user error should be reported without it
    from bench.runs.cell import Cell
    from bench.sweep.tuning import Study


class Group(NamedTuple):
    """Cells of a sweep, on one type of device, that differ only in the seed; or trials of a study.

    ``total`` is their number, ``left`` how many are still to be run; ``facts`` are those of their
    rows. Of a study, ``batch_size`` trials run in parallel, and the next ones when these have
    ended; it is 0 for cells, which are independent of each other.
    """

    device: str
    overrides: list[str]
    facts: dict[str, Any]
    total: int
    left: int
    batch_size: int = 0

    @property
    def label(self) -> list[str]:
        """The entries that name the group in a table."""
        return [*self.overrides, *(["(trials)"] if self.batch_size else [])]


def grouped(sweep: list[list[str]], devices: Collection[str]) -> list[Group]:
    """Return the groups of a sweep's cells, preceded by those of their trials.

    One cell of each group is checked as `bench` does; the others differ only in their names.

    Raises:
        UserError: A cell or its study is invalid. Hydra's exceptions are passed on.
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
    """Return the groups of tuned cells, preceded by their trials, once per study; raise UserError."""
    from bench.sweep import tuning  # imports optuna, which nothing else needs

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
    """Return the same cell on a type of device that this machine may lack."""
    import torch

    return replace(cell, device=torch.device(device))


def group_of(cell: "Cell", device: str, alike: list[str], members: list[list[str]]) -> Group:
    """Return the group of cells that differ from a checked one only in the seed; raise UserError."""
    from bench.runs import cell as cells
    from bench.runs.protocol import card

    learner = cells.build_learner(cell.config, cell.dataset, cell.train_setting)
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
    """Return the group of trials of a study that tune these cells; trials are not tested."""
    tune = study.tune
    facts = cells.facts | {"train_examples": tune.examples}
    del facts["episodes"]
    left = tune.n_trials - study.ended
    return cells._replace(facts=facts, total=tune.n_trials, left=left, batch_size=tune.batch_size)


def seeded(options: Config, overrides: list[str]) -> Config:
    """Return the configuration with the seed that overrides give; raise UserError."""
    given = [o.partition("=")[2] for o in overrides if o.startswith("seed=")]
    if not given:
        return options
    try:
        return Config.model_validate(options.model_dump() | {"seed": yaml.safe_load(given[-1])})
    except (ValidationError, yaml.YAMLError):
        raise UserError(f"seed={given[-1]} is invalid: it should be a number from 0 on.") from None


def is_left(record: Row | None, options: Config) -> bool:
    """Return whether the sweep's command would run the cell of this record."""
    again = record and record["status"] == "failed" and options.retry_failed
    return record is None or options.overwrite or bool(again)
