"""``python -m bench.verify``: evaluate stored runs again and compare with the stored results."""

import sys
from typing import Any

from bench.core import process

process.configure()  # before torch is imported

from tqdm import tqdm

from bench.config.schema import PLACES
from bench.core.errors import UserError
from bench.core.signals import run_command
from bench.runs.reload import find_run, load_cell
from bench.runs.store import Store
from bench.runs.verify import UNCHECKED, verify

USAGE = """\
Usage: python -m bench.verify [RUN...] [results_dir=DIR] [data_root=DIR] [cache_dir=DIR]
                              [dataset.path=DIR] [dataset.splits=FILE]

Evaluates finished runs again, from their stored parameters on their numbered test and validation
episodes, and says whether the accuracy of every episode is the stored one, and whether record,
configuration, learning curve and data fit each other. dataset.path and dataset.splits say where the
images of runs of dataset=folder are now. RUN is a folder such as results/runs/maml-..., or the name
of one under DIR/runs; without any, all finished runs there are verified. The status is 1 when
something does not fit."""


def main(arguments: list[str]) -> int:
    """Run the command and return its status: 0, 1 on a mismatch, 2 on a `UserError`."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        given = parse(arguments)
        folders = {key: given[key] for key in ("data_root", "cache_dir")}
        places = {key: at for key in PLACES if (at := given[f"dataset.{key}"])}
        runs = chosen(given["runs"], given["results_dir"] or "results")
        wrong = 0
        for store, name in tqdm(runs, unit="run", disable=len(runs) == 1):
            try:
                findings = verify(load_cell(store, name, folders, places), name)
            except UserError as mistake:
                findings = [str(mistake)]
            wrong += bool(findings)
            tqdm.write(f"{name}: " + ("; ".join(findings) or "every episode as stored"), sys.stdout)
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    print(f"{len(runs) - wrong} of {len(runs)} runs are what they say. {UNCHECKED}")
    return int(wrong > 0)


def parse(arguments: list[str]) -> dict[str, Any]:
    """Return the runs and the values of key=value arguments, None if not given.

    Raises:
        UserError: If an argument is unknown or has no value.
    """
    places = [f"dataset.{key}" for key in PLACES]
    given: dict[str, Any] = dict.fromkeys(("results_dir", "data_root", "cache_dir", *places))
    given["runs"] = [argument for argument in arguments if "=" not in argument]
    for argument in arguments:
        key, found, value = argument.partition("=")
        if found and (key not in given or key == "runs" or not value):
            raise UserError(
                f"Cannot read the argument {argument!r}; see python -m bench.verify --help."
            )
        if found:
            given[key] = value
    return given


def failed(store: Store, name: str) -> bool:
    """Return whether a run failed, so that there is nothing to verify."""
    try:
        return (store.record(name) or {}).get("status") == "failed"
    except (ValueError, OSError):
        return False


def chosen(runs: list[str], results_dir: str) -> list[tuple[Store, str]]:
    """Return the store and name of each requested run, or of all finished ones.

    Raises:
        UserError: If a run does not exist, or none has finished.
    """
    store = Store(results_dir)
    if not runs:
        records = sorted(store.runs.glob("*/record.json"))
        finished = [p.parent.name for p in records if not failed(store, p.parent.name)]
        if not finished:
            raise UserError(f"No finished runs under {store.runs}; give results_dir=... or a run.")
        return [(store, name) for name in finished]
    return [find_run(run, store) for run in runs]


if __name__ == "__main__":
    sys.exit(run_command(main))
