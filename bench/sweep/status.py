"""``python -m bench.status``: which cells of a sweep are done, and the state of the others."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml

from bench.config.compose import configuration
from bench.config.plugins import CONF
from bench.core.atomic import read_plain
from bench.core.errors import UserError
from bench.core.safe_yaml import plain_yaml
from bench.report.tables import markdown
from bench.runs.store import MOST_BYTES
from bench.sweep.callback import swept

if TYPE_CHECKING:
    from bench.config.schema import Config
    from bench.runs.cell import Cell


def overrides_of(arguments: list[str]) -> list[str]:
    """Return the overrides of a command's cells, or of the last sweep if it names none.

    Those that an experiment sweeps over itself come first.

    Raises:
        UserError: There is no sweep, or it is damaged. Hydra's exceptions are passed on.
    """
    overrides = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    if all(argument.startswith("results_dir=") for argument in overrides):
        overrides = last(overrides)
    return with_swept(overrides)


def with_swept(overrides: list[str]) -> list[str]:
    """Return overrides behind those that an experiment among them sweeps over itself."""
    experiment = [o for o in overrides if o.startswith("experiment=") and "," not in o]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", experiment, return_hydra_config=True)
    return [*swept(config), *overrides]


def last(arguments: list[str]) -> list[str]:
    """Return the overrides of the last sweep in a results folder; raise UserError without one."""
    folder = arguments[-1].partition("=")[2] if arguments else "results"
    sweeps = sorted(Path(folder).glob("sweeps/*/multirun.yaml"))
    if not sweeps:
        raise UserError(f"There is no sweep in {folder}/sweeps; give the overrides of one.")
    try:
        stored = plain_yaml(read_plain(sweeps[-1], MOST_BYTES).decode())
        ran = [str(override) for override in stored["hydra"]["overrides"]["task"]]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raise UserError(f"{sweeps[-1]} is damaged; give the overrides of the sweep.") from None
    return [*(o for o in ran if not o.startswith("results_dir=")), f"results_dir={folder}"]


def checked(overrides: list[str]) -> "Cell":
    """Return the cell that overrides describe; raise UserError and Hydra's exceptions."""
    from bench.runs import cell as cells  # imports torch, which takes seconds

    return cells.check(config_of(overrides))


def config_of(overrides: list[str]) -> "Config":
    """Return the configuration without checking its data; raise UserError and Hydra's exceptions."""
    from bench.config import schema as config
    from bench.runs.reload import check_known

    options = config.from_hydra(configuration(overrides))
    check_known(options)  # a results folder may be untrusted
    return options


def state(overrides: list[str]) -> tuple[str, str]:
    """Return the state of a cell, in one word, and the reason; raise UserError and Hydra's exceptions."""
    cell = checked(overrides)
    if cell.config.tune:
        from bench.sweep import tuning  # imports optuna, which nothing else needs

        study = tuning.Study.of(overrides, tuning.check(cell))
        if not study.finished:
            told = f"{study.ended} of {study.tune.n_trials} trials have ended"
            try:
                study.check_maker()
            except UserError as mistake:
                told += f". {mistake}"
            return ("tuning", told) if study.trials else ("missing", "")
        cell = checked([*overrides, *study.found()])
    record = cell.store.record(cell.name)
    if cell.store.running(cell.name):
        return "running", ""
    if record and record["status"] == "failed":
        return "failed", str(record["reason"])
    if record:
        from bench.core.version import commit

        code = commit()
        if record.get("commit") == code:
            return "done", ""
        return "stale", f"by commit {record.get('commit')}, now {code}"
    return ("interrupted" if cell.store.checkpoint(cell.name) else "missing"), ""


def table(cells: list[tuple[list[str], tuple[str, str]]]) -> str:
    """Return a Markdown table with a line per combination of overrides and a column per seed."""
    varied = [o for o in cells[0][0] if any(o not in other for other, _ in cells)]
    keys = [override.partition("=")[0] for override in varied]
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for overrides, (word, _) in cells:
        values: dict[str, Any] = dict(o.split("=", 1) for o in overrides if "=" in o)
        place = tuple(values[key] for key in keys if key != "seed")
        found.setdefault(place, {})[values.get("seed", "")] = word
    seeds = list(dict.fromkeys(seed for each in found.values() for seed in each))
    headers = [key for key in keys if key != "seed"] or ["cell"]
    columns = [f"seed {seed}" if seed else "status" for seed in seeds]
    lines = [
        [*(place or ("all",)), *(each.get(seed, "") for seed in seeds)]
        for place, each in found.items()
    ]
    return markdown([*headers, *columns], lines)
