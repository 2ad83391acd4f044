"""Figure of single functions of a regression: points, and the curves before and after adaptation."""

from collections.abc import Iterable, Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.drawing import GREY, INK, finish, house_style, legend, new_figure, styles
from bench.report.rows import SCORE, Row, comparisons, done, with_labels

NOTE = (
    "The same test functions for all learners, of the first seed; test points alone are predicted."
)


@house_style
def functions(records: Iterable[Row], fitted: Mapping[str, pd.DataFrame]) -> Figure | None:
    """Draw what learners make of some test functions; ``fitted`` maps cells to functions.csv.

    Each learner and setting has a row of panels, one for each function.
    """
    rows = with_labels(row for row in done(records) if row["cell"] in fitted)
    found = comparisons(rows, SCORE)
    lines = [
        (comparison, setting, label, fitted[comparison.at(label, setting)[0]["cell"]])
        for comparison in found
        for setting in comparison.settings
        for label in comparison.labels
        if comparison.at(label, setting)
    ]
    lines = [line for line in lines if len(line[3])]
    if not lines:
        return None
    looks = styles(rows, found)
    tasks = sorted(set(lines[0][3]["task"]))
    figure, axes = new_figure(len(lines) * len(tasks), len(tasks), 7.2, 1.5)
    for number, ax in enumerate(axes):
        _, setting, label, points = lines[number // len(tasks)]
        task = points[points["task"] == tasks[number % len(tasks)]].sort_values("x")
        support = task[task["part"] == "support"]
        ax.plot(task["x"], task["y"], color=GREY, linewidth=2.4, alpha=0.5)
        if task["before"].notna().all():
            ax.plot(task["x"], task["before"], color=INK, linestyle=":", linewidth=0.9)
        ax.plot(task["x"], task["after"], color=looks[label].colour, linewidth=1.2)
        ax.plot(support["x"], support["y"], "o", color=INK, markersize=2.5)
        if number % len(tasks) == 0:
            ax.set_title(f"{label}, {setting}", loc="left")
    legend(
        figure,
        [
            Line2D([], [], color=GREY, linewidth=2.4, alpha=0.5, label="function"),
            Line2D([], [], color=INK, marker="o", markersize=2.5, linestyle="none", label="shots"),
            Line2D([], [], color=INK, linestyle=":", linewidth=0.9, label="before adaptation"),
            Line2D([], [], color=INK, linewidth=1.2, label="after adaptation (in colour)"),
        ],
    )
    finish(figure, NOTE, found)
    return figure
