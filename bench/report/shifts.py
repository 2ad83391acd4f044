"""Transfer of trained learners to other data sets: tables of `bench.probe` with datasets=..."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench.report.rows import (
    SCORE,
    Comparison,
    Row,
    Score,
    comparisons,
    done,
    row_order,
    score,
    with_labels,
)
from bench.report.tables import ABSENT, Table

Shifts = Mapping[str, pd.DataFrame]
"""Maps each cell to its tests on other data sets, rows of `bench.runs.transfer.Shift`."""

COLUMNS = [
    *("algo", "trained_on", "tested_on", "ways", "shots", "queries", "seed", "score", "ci95"),
    *("difference", "difference_ci95", "seen", "episodes", "episodes_digest", "data_digest"),
    *("transductive", "cell"),
]
SHIFT_NOTE = (
    "Test scores of the same trained models on the test episodes of other data sets, of the same "
    "ways, shots and queries, their images brought to the shape of those trained on, their texts "
    "encoded as those were. On one data set, all learners have the same episodes. ±: 95 % interval "
    "over episodes of one trained model, or for other seeds and episodes where there are several. "
    "Difference: that less the score on the learner's own test set, in points; of two tests on episodes "
    "of their own. "
    "Seen: the tested images that training or validation had, to the pixel, or texts, to the word."
)


class TransferResults(NamedTuple):
    """One learner on one other data set.

    Holds its score, the difference to its own test, and the images seen in training (%).
    """

    score: Score
    difference: Score
    seen: float


def shift_table(records: Iterable[Row], shifts: Shifts) -> pd.DataFrame | None:
    """Return one row per cell and tested data set, its own first; None without tests."""
    lines = []
    for row in sorted(done(records), key=row_order):
        if (tests := shifts.get(row["cell"])) is None:
            continue
        own: Row = {**row, "trained_on": row["dataset"], "tested_on": row["dataset"]}
        lines.append(own)
        test: Any
        for test in tests.to_dict("records"):
            less = _shifted([(row, test)]).difference
            lines.append(
                {
                    **own,
                    **test,
                    "tested_on": test["dataset"],
                    "difference": less.mean,
                    "difference_ci95": less.half,
                }
            )
    return pd.DataFrame(lines, columns=COLUMNS) if lines else None


def shift_tables(records: Iterable[Row], shifts: Shifts) -> list[Table]:
    """Return tables of learners on other data sets, one per setting with tests."""
    tables = []
    for comparison, setting in transfer_settings(records, shifts):
        lines = []
        own = comparison.rows[0]["dataset"]
        for label, tests in shifted(comparison, setting, shifts).items():
            result = score(comparison.at(label, setting))
            on_own = comparison.metric.number(result.mean, result.half)
            lines.append([label, own, own, on_own, ABSENT, ABSENT])
            for name, test in tests.items():
                difference = f"{test.difference.mean:+.1f} ± {test.difference.half:.1f}"
                seen = f"{test.seen:.1f} %"
                elsewhere = comparison.metric.number(test.score.mean, test.score.half)
                lines.append([label, own, name, elsewhere, difference, seen])
        headers = ["Learner", "trained on", "tested on", "score", "difference", "seen"]
        title, place = f"{comparison.title}, {setting}", comparison.place(setting)
        tables.append(Table(title, headers, lines, SHIFT_NOTE, place))
    return tables


def transfer_settings(records: Iterable[Row], shifts: Shifts) -> list[tuple[Comparison, str]]:
    """Return comparisons and settings in which a learner was tested on another data set."""
    return [
        (comparison, setting)
        for comparison in comparisons(done(with_labels(records)), SCORE)
        for setting in comparison.settings
        if shifted(comparison, setting, shifts)
    ]


def shifted(
    comparison: Comparison, setting: str, shifts: Shifts
) -> dict[str, dict[str, TransferResults]]:
    """Return the results by learner and other data set, over the seeds that were tested there."""
    found: dict[str, dict[str, TransferResults]] = {}
    for label in comparison.labels:
        tests: dict[str, list[tuple[Row, Any]]] = {}
        for row in comparison.at(label, setting):
            if (each := shifts.get(row["cell"])) is not None:
                for test in each.to_dict("records"):
                    tests.setdefault(str(test["dataset"]), []).append((row, test))
        if tests:
            found[label] = {name: _shifted(tests[name]) for name in sorted(tests)}
    return found


def _shifted(pairs: Sequence[tuple[Row, Any]]) -> TransferResults:
    """Return the transfer results from (own test, test elsewhere) of each seed.

    The two tests have independent episodes, so the variances of their means add up.
    """
    differences = [
        {"score": test["score"] - own["score"], "ci95": math.hypot(own["ci95"], test["ci95"])}
        for own, test in pairs
    ]
    tests = [test for _, test in pairs]
    return TransferResults(score(tests), score(differences), max(test["seen"] for test in tests))
