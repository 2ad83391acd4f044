"""Validation scores during training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from bench.report.figures.description import Axis, Figure, Line
from bench.report.figures.parts import (
    around,
    heights,
    machine,
    note,
    panel,
    score_axis,
    settings_of,
)
from bench.report.figures.styles import Style, styles
from bench.report.rows import ALL_FACTS, SCORE, Row, comparisons, done, is_timed, with_labels
from bench.tasks.base import Metric

Curves = Mapping[str, pd.DataFrame]
"""Maps each cell to its history."""

AXES = {"episodes": "Training episodes", "seconds": "Training time (s)"}


def learning_curves(records: Iterable[Row], curves: Curves, x: str) -> Figure:
    """Show validation scores against training 'episodes' or training 'seconds'.

    One seed: its 95 % interval as a band. Several: a thin line each, and their mean.
    """
    rows = with_labels(records)
    drawn = [row for row in done(rows) if not curves.get(row["cell"], pd.DataFrame()).empty]
    if x == "seconds":
        drawn = [row for row in drawn if is_timed(row)]
    # Times of different machines are not comparable.
    found = comparisons(drawn, SCORE if x == "episodes" else ALL_FACTS)
    looks = styles(rows, found)
    panels, counts = [], set()
    for comparison, setting in settings_of(found):
        lines: list[Line] = []
        for label in comparison.labels:
            if seeds := [curves[row["cell"]] for row in comparison.at(label, setting)]:
                lines += _lines(label, looks[label], seeds, x, comparison.metric)
                counts.add(len(seeds))
        y = score_axis(comparison.metric, heights(lines), "Validation")
        panels.append(panel(comparison, setting, Axis(AXES[x], low=0), y, lines))
    return Figure(
        panels,
        note(
            found,
            "Bands: 95 % interval over the validation episodes." if 1 in counts else "",
            "Thin lines: single seeds; thick: their mean." if max(counts, default=0) > 1 else "",
            machine(found) if x == "seconds" else "",
        ),
    )


def _lines(
    label: str, look: Style, seeds: Sequence[pd.DataFrame], x: str, metric: Metric
) -> list[Line]:
    thin = replace(look, marker="", kind=0, width=0.6, opacity=0.45)
    lines = [Line(label, thin, list(s[x]), list(s["val_score"])) for s in seeds]
    curve = mean_curve(seeds)
    ends: list[list[float]] = []
    if len(seeds) == 1:
        lines, curve = [], seeds[0]
        ends = around(curve["val_score"], curve["val_ci95"])
    hover = [
        f"{label}\n{metric.text(at['val_score'], at.get('val_ci95'))}\n"
        f"{at['episodes']:,.0f} episodes, {at['seconds']:,.1f} s"
        for at in curve.to_dict("records")
    ]
    return [*lines, Line(label, look, list(curve[x]), list(curve["val_score"]), ends, hover)]


def mean_curve(seeds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean curve over the validations (by episodes) that all seeds have."""
    joined = pd.concat([seed.set_index("episodes", drop=False) for seed in seeds], axis=1).dropna()
    names = ("episodes", "seconds", "val_score")
    return pd.DataFrame({name: joined[[name]].mean(axis=1) for name in names})
