"""``python -m bench.reproduce``: run the published cells, those first that are worth most an hour."""

import os
import sys

from bench import process

process.tune()  # before torch is imported

from bench import usage
from bench.interrupt import ended
from bench.mistake import Mistake
from bench.reproduce.run import OPTIONS, Given, reproduce
from bench.until import parse as seconds_of
from bench.until import until

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
    """Run the command; returns its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        given = parse(arguments)
        os.nice(19)
        with until(given.until):
            return reproduce(given)
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return mistake.status
    except usage.HYDRA_MISTAKES as error:
        print(f"error: {usage.explain(error)}", file=sys.stderr)
        return 2


def parse(arguments: list[str]) -> Given:
    """Read key=value arguments; raises Mistake."""
    values = {"threads": "1", "results_dir": "results"}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in ("until", "only", "seeds", *OPTIONS) or not value:
            raise Mistake(
                f"Cannot read the argument {argument!r}; see python -m bench.reproduce --help."
            )
        values[key] = value
    seeds = values.get("seeds", "").split(",") if "seeds" in values else []
    if not all(seed.isdecimal() for seed in seeds):
        raise Mistake(f"seeds={values['seeds']} is not possible: it should be like 0,1,2.")
    if not values["threads"].isdecimal() or values["threads"] == "0":
        raise Mistake(f"threads={values['threads']} is not possible: it should be 1 or more.")
    return Given(
        seconds_of(values["until"]) if "until" in values else None,
        values.get("only", ""),
        sorted({int(seed) for seed in seeds}) or None,
        {key: values[key] for key in OPTIONS if key in values},
    )


if __name__ == "__main__":
    sys.exit(ended(main))
