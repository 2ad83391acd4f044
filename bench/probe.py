"""``python -m bench.probe``: evaluate finished runs of a results folder under other conditions."""

import sys

from bench.core import process

process.configure()  # before torch is imported

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from bench.config import explain
from bench.core.errors import UserError
from bench.core.signals import run_command
from bench.datasets.io.cache import DataDirs
from bench.report import command as report
from bench.report import read
from bench.report.rows import done
from bench.runs.probe import probe
from bench.runs.reload import load_cell, parameters
from bench.runs.store import Store
from bench.runs.transfer import load, others, shifts

USAGE = """\
Usage: python -m bench.probe [results_dir=DIR] [episodes=N] [data_root=DIR] [cache_dir=DIR]
       python -m bench.probe datasets=NAME,NAME... [...]
       python -m bench.probe datasets=NAME dataset.OPTION=VALUE... [...]

Evaluates the trained parameters of each finished run under DIR/runs on N test episodes (100 when not
given), the same ones for all learners, and varies one thing at a time (a minute a run on 2 cores):
  statistics   whose images normalise a query in batch norm: running averages, the support set, it and
               the one query, the one query alone, or all queries (transductive)
  steps        steps of the inner loop
  shots        support images per class, with 5 queries per class
  ways         classes, with 5 queries per class; not where the head is made for a number of ways
Writes runs/<cell>/probe.csv and rebuilds the report: transduction.md and figures/adaptation.*.

With datasets=..., such as omniglot,fc100, it evaluates instead on the test episodes of those data sets,
with the defaults of conf/dataset/, of the ways, shots and queries that each run was tested with. One
alone may have other options, such as datasets=folder dataset.path=photos/. Images are brought to the
shape of the run's: colour to grey by luma, grey to colour by repetition, bilinear antialiased scaling;
texts are encoded as those of the run are.
Writes runs/<cell>/shift.csv and rebuilds the report: shift.md, shift.csv and figures/shift.*."""


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status: 0, or 2 on a `UserError`."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        options = [argument for argument in arguments if argument.startswith("dataset.")]
        given = parse([argument for argument in arguments if argument not in options])
        store = Store(given["results_dir"] or "results")
        folders = {key: given[key] for key in ("data_root", "cache_dir")}
        names = [row["cell"] for row in done(read(store.root)[0])]
        runs = [(name, load_cell(store, name, folders)) for name in names]
        wanted = given["datasets"].split(",") if given["datasets"] else []
        datasets = load(wanted, DataDirs.of(**folders), options)
        on = {name: others(cell, datasets) for name, cell in runs}
        if datasets and not any(on.values()):
            raise UserError(
                f"datasets={given['datasets']} names nothing but what the runs under {store.runs} "
                "were trained on, whose test they have; name another data set."
            )
        episodes = int(given["episodes"] or 100)
        for name, cell in tqdm(runs, unit="run"):
            checkpoint = parameters(store, name)
            found: Iterator[NamedTuple] = (
                shifts(cell, checkpoint, on[name], episodes)
                if datasets
                else probe(cell, checkpoint, episodes)
            )
            if len(table := pd.DataFrame(found)):
                file = "shift.csv" if datasets else "probe.csv"
                store.write(name, {file: table.to_csv(index=False)})
    except explain.MISTAKES as error:
        return explain.report(error)
    return report.main([f"results_dir={store.root}"])


def parse(arguments: list[str]) -> dict[str, str | None]:
    """Return the values of key=value arguments, None if not given.

    Raises:
        UserError: If an argument is unknown, has no value, or is not valid.
    """
    given: dict[str, str | None] = dict.fromkeys(
        ("results_dir", "episodes", "datasets", "data_root", "cache_dir")
    )
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in given or not value:
            raise UserError(
                f"Cannot read the argument {argument!r}; see python -m bench.probe --help."
            )
        given[key] = value
    episodes = given["episodes"] or "100"
    if not episodes.isdecimal() or int(episodes) < 2:
        raise UserError(f"episodes={episodes} is invalid: it should be a number from 2 on.")
    return given


if __name__ == "__main__":
    sys.exit(run_command(main))
