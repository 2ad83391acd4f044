"""``python -m bench.report``: rebuild the tables and figures of a results folder."""

import math
import sys
from pathlib import Path

from bench.core.errors import UserError
from bench.report import build
from bench.report.leaderboard import MARGIN
from bench.report.rows import ACROSS, incompatibilities
from bench.report.tables import terminal_table, winners
from bench.runs.store import Store

USAGE = """\
Usage: python -m bench.report [results_dir=DIR,DIR...] [across=FACT,FACT...] [margin=POINTS]

Rebuilds the views of a results folder from the cells under DIR/runs, trains nothing:
  report.html                     all of it as one page to open offline, the answer first
  accuracy.csv, throughput.csv    one row a cell, or a cell and phase, with the protocol card
  accuracy.md, throughput.md      the same to read
  accuracy.tex                    the same for a paper, with booktabs
  leaderboard.csv, .md, pairs.csv ranks with ties, intervals by what they cover, all pairs
  time_to_accuracy.md             training time until a validation reached so much
  probe.csv, transduction.md      after python -m bench.probe: under other conditions
  shift.csv, shift.md             after python -m bench.probe datasets=...: on other data sets
  saturation.md                   training speed by meta-batch, where a learner has several
  recipes.md                      what learner and recipe contribute, where several were crossed
  networks.md                     learners by networks, pretrained or from scratch
  folds.md, folds.csv             learners by the folds of a data set, and the mean over folds
  photographs.md                  a few classes of photographs: accuracy by how many there are
  classes.md, classes.csv         accuracy of each test class, and what it is taken for
  tuning.md                       what tuned learners cost to tune, and what was chosen
  figures/*.png, figures/*.pdf    ranking, pairs, accuracy, learning curves, throughput
  claimed.csv, claimed.md         published accuracies against those of their named experiments
and prints the comparison. DIR is 'results' when it is not given. Several folders, such as those of
several machines, are reported as one, in the first of them, which may be new; a cell that is in two of
them counts once, and must have the same numbers. Rows whose protocols differ are not
compared, but for differences in the facts given as across=..., which then stand in the labels:
{facts}. Learners are equivalent that differ by less than the margin, 1 point if it is not given."""


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status: 0, or 2 on a `UserError`."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE.format(facts=", ".join(ACROSS)))
        return 0
    try:
        (folder, *others), fields, margin = _parse(arguments)
        report = build(folder, fields, others, margin)
        print(terminal_table(report.records))
        for text in (winners(report.boards), *incompatibilities(report.records)):
            if text:
                print(f"\n{text}")
        print("\nWritten:")
        print("\n".join(f"  {path}" for path in report.paths))
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    return 0


def _parse(arguments: list[str]) -> tuple[list[str], list[str], float]:
    """Return the folders, the facts that may differ, and the margin of equivalence in points."""
    given = {"results_dir": "results", "across": "", "margin": str(MARGIN)}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in given or not value:
            raise UserError(
                f"Cannot read the argument {argument!r}; there are results_dir=DIR,DIR, "
                "across=FACT,FACT and margin=POINTS (python -m bench.report --help)."
            )
        given[key] = value
    fields = [field for field in given["across"].split(",") if field]
    for field in fields:
        if field not in ACROSS:
            raise UserError(
                f"across={field} is not possible: rows that differ in it cannot be compared, or there "
                f"is no such fact; choose from {', '.join(ACROSS)}."
            )
    try:
        margin = float(given["margin"])
    except ValueError:
        margin = math.nan
    if not 0 < margin <= 100:
        raise UserError(
            f"margin={given['margin']} is no margin: give the points of accuracy, such as 0.5, within "
            "which learners are called equivalent."
        )
    return _folders(given["results_dir"]), fields, margin


def _folders(given: str) -> list[str]:
    """Return the folders of a comma-separated list; all but the first must exist.

    A single folder may have commas in its name, if it exists.
    """
    folders = (
        [given] if Path(given).exists() else [each for each in given.split(",") if each] or [given]
    )
    for folder in folders[1:]:
        if not Store(folder).runs.is_dir():
            raise UserError(
                f"There are no runs in {folder}: name folders that have some, results_dir=DIR,DIR."
            )
    return folders
