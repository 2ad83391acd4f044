"""``python -m bench.status``: which cells of a sweep are done, and what became of the others."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml

from bench import usage
from bench.compose import configuration
from bench.files import read_plain
from bench.interrupt import ended
from bench.mistake import Mistake
from bench.report.tables import markdown
from bench.store import MOST_BYTES, plain_yaml
from bench.sweep import grid, swept

if TYPE_CHECKING:
    from bench.cell import Cell
    from bench.config import Config

USAGE = """\
Usage: python -m bench.status [OVERRIDE...]

Shows each cell of a sweep, given by the overrides of its command such as algo=maml,protonet seed=0,1
results_dir=DIR; without any, of the last sweep in DIR/sweeps (DIR is 'results'). A cell is
  done         finished
  stale        finished by another version of the code
  failed       has a record that says why; retry_failed=true runs it again
  running      some process is at it
  interrupted  begun and not ended; the sweep's command goes on with it
  tuning       not begun, since the trials that find its options have not all ended
  missing      not begun
The status is 0 when all are done, 1 when some are not, 2 for a mistake. Nothing is run."""


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        cells = [(each, state(each)) for each in grid(overrides_of(arguments))]
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    except usage.HYDRA_MISTAKES as error:
        print(f"error: {usage.explain(error)}", file=sys.stderr)
        return 2
    print(table(cells))
    counts = Counter(word for _, (word, _) in cells)
    print(f"\n{len(cells)} cells: {', '.join(f'{n} {word}' for word, n in counts.items())}.")
    notes: dict[tuple[str, str], list[str]] = {}
    for each, (word, note) in cells:
        notes.setdefault((word, note), []).append(" ".join(each))
    for (word, note), those in notes.items():
        if note:
            print(f"{word}: {those[0] if len(those) == 1 else f'{len(those)} cells'}: {note}")
    return int(set(counts) != {"done"})


def overrides_of(arguments: list[str]) -> list[str]:
    """The overrides of a command's cells, of the last sweep when it names none.

    Those come first that an experiment sweeps over by itself. Raises Mistake and what Hydra raises.
    """
    overrides = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    if all(argument.startswith("results_dir=") for argument in overrides):
        overrides = last(overrides)
    experiment = [o for o in overrides if o.startswith("experiment=") and "," not in o]
    with hydra.initialize_config_dir(str(usage.CONF), version_base="1.3"):
        config = hydra.compose("config", experiment, return_hydra_config=True)
    return [*swept(config), *overrides]


def last(arguments: list[str]) -> list[str]:
    """The overrides of the last sweep in a results folder; raises Mistake without one."""
    folder = arguments[-1].partition("=")[2] if arguments else "results"
    sweeps = sorted(Path(folder).glob("sweeps/*/multirun.yaml"))
    if not sweeps:
        raise Mistake(f"There is no sweep in {folder}/sweeps; give the overrides of one.")
    try:
        stored = plain_yaml(read_plain(sweeps[-1], MOST_BYTES).decode())
        ran = [str(override) for override in stored["hydra"]["overrides"]["task"]]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raise Mistake(f"{sweeps[-1]} is damaged; give the overrides of the sweep.") from None
    return [*(o for o in ran if not o.startswith("results_dir=")), f"results_dir={folder}"]


def checked(overrides: list[str]) -> "Cell":
    """The cell that overrides describe; raises Mistake and what Hydra raises."""
    from bench import cell as cells  # imports torch, which a mistake need not wait for

    return cells.check(config_of(overrides))


def config_of(overrides: list[str]) -> "Config":
    """The configuration of the same, not yet held to its data; raises Mistake and what Hydra raises."""
    from bench import config
    from bench.stored import check_known

    options = config.read(configuration(overrides))
    check_known(options)  # a folder of results may be a stranger's
    return options


def state(overrides: list[str]) -> tuple[str, str]:
    """What became of a cell, in a word, and why; raises Mistake and what Hydra raises."""

    cell = checked(overrides)
    if cell.config.tune:
        from bench import tuning  # imports optuna, which only this needs

        study = tuning.Study.of(overrides, tuning.check(cell))
        if not study.finished:
            told = f"{study.ended} of {study.tune.trials} trials have ended"
            try:
                study.check_maker()
            except Mistake as mistake:
                told += f". {mistake}"
            return ("tuning", told) if study.trials else ("missing", "")
        cell = checked([*overrides, *study.found()])
    record = cell.store.record(cell.name)
    if cell.store.running(cell.name):
        return "running", ""
    if record and record["status"] == "failed":
        return "failed", str(record["reason"])
    if record:
        from bench.version import commit

        code = commit()
        if record.get("commit") == code:
            return "done", ""
        return "stale", f"by commit {record.get('commit')}, now {code}"
    return ("interrupted" if cell.store.progress(cell.name) else "missing"), ""


def table(cells: list[tuple[list[str], tuple[str, str]]]) -> str:
    """A Markdown table: a line for each combination of overrides, a column for each seed."""
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


if __name__ == "__main__":
    sys.exit(ended(main))
