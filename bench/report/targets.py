"""Training time of each learner until it reaches target accuracies."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from bench.report.rows import (
    ALL_FACTS,
    Row,
    comparisons,
    done,
    is_timed,
    metric_of,
    phase_throughput,
    with_labels,
)
from bench.report.tables import ABSENT, Table, joined

TARGETS = (60, 80, 90, 95, 98, 99)
"""Target validation accuracies in percent."""

NOTE = (
    "Training time (and episodes, and the energy of the GPU where that was measured) at the first "
    "validation that reached so much accuracy, the mean over seeds that all reached it; a dash: not "
    "reached. As fine as the validations are apart, of which a run has {times}."
)


def time_to_accuracy_markdown(
    records: Iterable[Row], curves: Mapping[str, pd.DataFrame]
) -> str | None:
    """Return Markdown of learners by targets, one table per setting and machine.

    None without learning curves.
    """
    tables = time_to_accuracy_tables(records, curves)
    return f"{joined(tables)}\n{note(curves)}\n" if tables else None


def time_to_accuracy_tables(
    records: Iterable[Row], curves: Mapping[str, pd.DataFrame]
) -> list[Table]:
    """Return tables of learners by targets, one per setting and machine with learning curves."""
    rows = [
        row
        for row in done(with_labels(records))
        if row["cell"] in curves and is_timed(row) and metric_of(row).unit == "%"
    ]
    tables = []
    for comparison in comparisons(rows, ALL_FACTS):
        for setting in comparison.settings:
            lines = []
            for label in comparison.labels:
                if seeds := comparison.at(label, setting):
                    reached = [_reached(seeds, curves, target) for target in TARGETS]
                    lines.append([label, *(each or ABSENT for each in reached)])
            shown = [i for i in range(len(TARGETS)) if any(line[1 + i] != ABSENT for line in lines)]
            if shown:
                headers = ["Learner", *(f"{TARGETS[i]} %" for i in shown)]
                cells = [[line[0], *(line[1 + i] for i in shown)] for line in lines]
                title, place = f"{comparison.title}, {setting}", comparison.place(setting)
                tables.append(Table(title, headers, cells, place=place))
    return tables


def note(curves: Mapping[str, pd.DataFrame]) -> str:
    """Return a note on what the tables show, and at which resolution."""
    times = sorted({len(curve) for curve in curves.values()})
    return NOTE.format(times=" or ".join(map(str, times)))


def _reached(seeds: Sequence[Row], curves: Mapping[str, pd.DataFrame], target: float) -> str | None:
    """Return seconds, episodes and energy to the target; None if a seed did not reach it."""
    firsts = []
    for row in seeds:
        curve = curves[row["cell"]]
        above = curve[curve["val_score"] >= target]
        if above.empty:
            return None
        firsts.append(above.iloc[0])
    reached = pd.DataFrame(firsts)
    seconds, episodes = reached["seconds"].mean(), reached["episodes"].mean()
    text = f"{seconds:.0f} s ({episodes:,.0f}"
    joules = phase_throughput(seeds, "train", "joules_per_1000_tasks")
    return f"{text}, {joules * episodes / 1e6:.1f} kJ)" if joules else f"{text})"
