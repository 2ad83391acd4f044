"""``python -m bench.report``: rebuild the tables and figures of a results folder."""

import sys

from bench.mistake import Mistake
from bench.report import build, read, standings
from bench.report.tables import terminal_table, winners

USAGE = """\
Usage: python -m bench.report [results_dir=DIR]

Rebuilds the views of a results folder from the cells under DIR/runs, trains nothing:
  accuracy.csv, throughput.csv    one row a cell, or a cell and phase, with the protocol card
  accuracy.md, throughput.md      the same to read
  accuracy.tex                    the same for a paper, with booktabs
  leaderboard.csv, .md, pairs.csv ranks with ties, intervals by what they cover, all pairs
  time_to_accuracy.md             training time until a validation reached so much
  probe.csv, transduction.md      after python -m bench.probe: under other conditions
  saturation.md                   training speed by meta-batch, where a learner has several
  figures/*.png, figures/*.pdf    ranking, pairs, accuracy, learning curves, throughput
and prints the comparison. DIR is 'results' when it is not given."""


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status: 0, or 2 for a user's mistake."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        folder = _results_dir(arguments)
        paths = build(folder)
        records = read(folder)
        print(terminal_table(records))
        if best := winners(standings(folder, records)):
            print(f"\n{best}")
        print("\nWritten:")
        print("\n".join(f"  {path}" for path in paths))
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        return 2
    return 0


def _results_dir(arguments: list[str]) -> str:
    folder = "results"
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key != "results_dir" or not value:
            raise Mistake(
                f"Cannot read the argument {argument!r}; the only one is results_dir=DIR "
                "(python -m bench.report --help)."
            )
        folder = value
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
