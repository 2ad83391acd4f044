"""``python -m bench.reproduce``: run the published cells, most valuable per hour first."""

import os
import sys

from bench.core import process

process.configure()  # before torch is imported

from bench.config import explain
from bench.core.errors import UserError
from bench.core.signals import run_command
from bench.core.until import parse as seconds_of
from bench.core.until import until
from bench.sweep.reproduce.run import OPTIONS, Given, reproduce

USAGE = """\
Usage: python -m bench.reproduce [until=TIME] [only=NAME] [seeds=N,N...] [threads=N] [results_dir=DIR]
                                 [data_root=DIR] [cache_dir=DIR]

Runs the published cells (experiment=paper/..., see claimed.md) one after the other, and tells at the end
what was measured against what was claimed, and what is next. The same command goes on where it was.
  until        ends by itself after so long, such as 170m, with status 75; training is saved. A signal
               such as Ctrl-C does the same.
  only         the cells of a data set, a learner or both, such as omniglot, maml or omniglot_maml_5w1s
  seeds        the seeds of each cell; when not given 0,1,2, and 0 alone where a run takes over two hours
  threads      threads of the CPU, 1 when not given: start the command once for each core, all of them in
               one folder, rather than with more threads
  results_dir  the folder of the runs, 'results' when not given
Next is the run that is worth most an hour, by a forecast of a few steps: the first of a cell counts 1,
another one 1/2 until the cell has a verdict, and 1/4 from then on. It runs at the lowest priority, so
that other work is not slowed down; speed is therefore not measured. Data that is not here is left out.
The status is 0 when all are done, 1 when some failed, 75 when some are left, 2 for a mistake."""


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        given = parse(arguments)
        os.nice(19)
        with until(given.until):
            return reproduce(given)
    except explain.MISTAKES as error:
        return explain.report(error)


def parse(arguments: list[str]) -> Given:
    """Parse key=value arguments.

    Raises:
        UserError: If an argument is unknown, has no value, or is not valid.
    """
    values = {"threads": "1", "results_dir": "results"}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in ("until", "only", "seeds", *OPTIONS) or not value:
            raise UserError(
                f"Cannot read the argument {argument!r}; see python -m bench.reproduce --help."
            )
        values[key] = value
    seeds = values.get("seeds", "").split(",") if "seeds" in values else []
    if not all(seed.isdecimal() for seed in seeds):
        raise UserError(f"seeds={values['seeds']} is invalid: it should be like 0,1,2.")
    if not values["threads"].isdecimal() or values["threads"] == "0":
        raise UserError(f"threads={values['threads']} is invalid: it should be 1 or more.")
    return Given(
        seconds_of(values["until"]) if "until" in values else None,
        values.get("only", ""),
        sorted({int(seed) for seed in seeds}) or None,
        {key: values[key] for key in OPTIONS if key in values},
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
