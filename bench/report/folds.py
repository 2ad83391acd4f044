"""Learners over the folds of one data set: the mean over folds, and its interval."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.report.rows import (
    SCORE,
    Comparison,
    Row,
    Score,
    comparisons,
    done,
    is_floor,
    learners,
    score,
    with_labels,
)
from bench.report.tables import ABSENT, Table
from bench.stats.intervals import Estimate

NOTE = (
    "A fold is another split of the same classes into training, validation and test, with test "
    "episodes of its own: no pairs are formed across folds. ± of a fold: 95 % interval over episodes "
    "of one trained model, or for other seeds and episodes where there are several. ± of the mean: 95 "
    "% interval (t) over the folds, for other splits of these classes; test classes of several folds "
    "overlap, so that it is rather too narrow."
)
COLUMNS = ["comparison", "setting", "learner", "metric", "folds", "score", "ci95"]


class OverFolds(NamedTuple):
    """A learner in a setting: its score on each fold by name, and their mean, with its interval."""

    label: str
    folds: dict[str, Score]
    estimate: Estimate


def over_folds(
    records: Iterable[Row], configs: Mapping[str, Any]
) -> list[tuple[Comparison, str, list[OverFolds]]]:
    """Return comparisons and settings with the learners that were tested on several folds there.

    Args:
        records: Rows from `bench.report.rows.with_scores`.
        configs: The stored configuration of each cell, which names its fold.
    """
    rows = [_merged(row, *of) for row in done(records) if (of := _fold(configs.get(row["cell"])))]
    found = []
    for comparison in comparisons(with_labels(rows), SCORE):
        every = [*comparison.floors, *comparison.rows]
        for setting in comparison.settings:
            here = [row for row in every if row["setting"] == setting]
            names = learners(filter(is_floor, here)) + comparison.labels
            own = {name: [row for row in here if row["label"] == name] for name in names}
            several = {
                name: rows for name, rows in own.items() if len({row["fold"] for row in rows}) > 1
            }
            if several:
                lines = [_line(name, rows) for name, rows in several.items()]
                found.append((comparison, setting, lines))
    return found


def fold_tables(found: Iterable[tuple[Comparison, str, list[OverFolds]]]) -> list[Table]:
    """Return a table of `over_folds` for each comparison and setting, learners by folds."""
    tables = []
    for comparison, setting, lines in found:
        folds = sorted({name for line in lines for name in line.folds})
        number, cells = comparison.metric.number, []
        for label, of, mean in lines:
            scores = [number(of[f].mean, of[f].half) if f in of else ABSENT for f in folds]
            cells.append([label, *scores, f"{number(mean.mean, mean.half)} ({len(of)})"])
        title = f"{comparison.title}, {setting}, {comparison.metric.axis()}"
        headers = ["Learner", *(f"fold {name}" for name in folds), "mean (folds)"]
        tables.append(Table(title, headers, cells, NOTE, comparison.place(setting)))
    return tables


def fold_table(found: Iterable[tuple[Comparison, str, list[OverFolds]]]) -> pd.DataFrame | None:
    """Return one row for each line of `over_folds`; None if there are none."""
    rows = [
        [comparison.title, setting, line.label, comparison.metric.name, len(line.folds),
         line.estimate.mean, line.estimate.half]
        for comparison, setting, lines in found
        for line in lines
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS) if rows else None


def _fold(config: Any) -> tuple[str, str] | None:
    """Return the data set and the fold of a stored configuration, if it is one of several."""
    dataset = config.get("dataset") if isinstance(config, dict) else None
    if not isinstance(dataset, dict) or not isinstance(fold := dataset.get("fold"), str):
        return None
    return (str(dataset.get("name")), fold) if fold.isdecimal() else None


def _merged(row: Row, dataset: str, fold: str) -> Row:
    """Return a copy of a row that is compared with those of other folds; "network" keeps them apart."""
    episodes = " ".join(str(row[key]) for key in ("ways", "shots", "queries", "episodes"))
    alike = {"dataset": dataset, "data_digest": "any", "episodes_digest": f"{dataset} {episodes}"}
    return row | alike | {"network": f"fold {fold}", "fold": fold}


def _line(label: str, rows: list[Row]) -> OverFolds:
    """Return the result of a learner in a setting."""
    folds = {
        fold: score([row for row in rows if row["fold"] == fold])
        for fold in sorted({row["fold"] for row in rows})
    }
    means = np.array([each.mean for each in folds.values()])
    count = len(means)
    error = float(means.std(ddof=1)) / math.sqrt(count)
    return OverFolds(label, folds, Estimate(float(means.mean()), error, count - 1))
