"""Figures of a report: one file each, pure functions of rows, which two renderers draw."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from bench.report.figures.adaptation import adaptation
from bench.report.figures.cost import score_throughput
from bench.report.figures.description import Figure
from bench.report.figures.functions import functions
from bench.report.figures.learning_curves import Curves, learning_curves
from bench.report.figures.meta_batch import throughput_meta_batch
from bench.report.figures.pairs import pairs
from bench.report.figures.photographs import photographs
from bench.report.figures.ranking import ranking
from bench.report.figures.scores import scores
from bench.report.figures.shift import shift
from bench.report.figures.throughput import throughput
from bench.report.leaderboard import Leaderboard
from bench.report.photographs import Classes
from bench.report.rows import Row, by_metric
from bench.report.shifts import Shifts
from bench.report.trials import Trials


def figures(
    records: Iterable[Row],
    boards: Sequence[Leaderboard],
    curves: Curves,
    probed: Trials,
    shifted: Shifts,
    fitted: Mapping[str, pd.DataFrame],
    classes: Classes,
) -> dict[str, Figure]:
    """Return all figures by name, those without panels as well.

    All but the first two map cells to their tables.
    """
    rows = list(records)
    return {
        "ranking": ranking(boards),
        "pairs": pairs(boards),
        **{metric.name: scores(of) for metric, of in by_metric(rows).items()},
        "score_throughput": score_throughput(rows),
        "learning_curves_episodes": learning_curves(rows, curves, "episodes"),
        "learning_curves_seconds": learning_curves(rows, curves, "seconds"),
        "adaptation": adaptation(rows, probed),
        "photographs": photographs(rows, probed, classes),
        "shift": shift(rows, shifted),
        "functions": functions(rows, fitted),
        "throughput": throughput(rows),
        "throughput_meta_batch": throughput_meta_batch(rows),
    }
