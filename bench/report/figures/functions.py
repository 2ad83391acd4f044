"""What learners make of single functions, in regression."""

from collections.abc import Iterable, Mapping

import pandas as pd

from bench.report.figures.description import Axis, Figure, Line, Panel, Points
from bench.report.figures.parts import note, settings_of
from bench.report.figures.styles import GREY, INK, Style, styles
from bench.report.rows import SCORE, Row, comparisons, done, with_labels

NOTE = (
    "The same test functions for all learners, of the first seed; test points alone are predicted. "
    "Broad and grey: the function; dots: the shots; dotted: before adaptation; in colour: after it."
)


def functions(records: Iterable[Row], fitted: Mapping[str, pd.DataFrame]) -> Figure:
    """Show what learners make of some test functions; ``fitted`` maps cells to functions.csv.

    Each learner and setting has a row of panels, one for each function.
    """
    rows = with_labels(row for row in done(records) if len(fitted.get(row["cell"], ())))
    found = comparisons(rows, SCORE)
    looks = styles(rows, found)
    panels = [
        Panel(
            f"{label}, {setting}",
            Axis(grid=False),
            Axis(grid=False),
            _series(label, looks[label], points[points["task"] == task].sort_values("x")),
            place=comparison.place(setting),
        )
        for comparison, setting in settings_of(found)
        for label in comparison.labels
        for seeds in [comparison.at(label, setting)]
        if seeds
        for points in [fitted[seeds[0]["cell"]]]
        for task in sorted(set(points["task"]))
    ]
    counts = {len(set(each["task"])) for each in fitted.values() if len(each)}
    return Figure(
        panels, note(found, NOTE), max(counts, default=1), height=1.5, width=7.2, legend=False
    )


def _series(label: str, look: Style, points: pd.DataFrame) -> list[Line | Points]:
    x, y, after = (list(points[key]) for key in ("x", "y", "after"))
    support = points[points["part"] == "support"]
    hover = [
        f"{label}\n{value:.3g} at {at:.3g}, where the function is {target:.3g}"
        for at, target, value in zip(x, y, after, strict=True)
    ]
    found: list[Line | Points] = [Line("function", Style(GREY, width=2.4, opacity=0.5), x, y)]
    if points["before"].notna().all():
        found.append(Line("before", Style(INK, kind=2, width=0.9), x, list(points["before"])))
    found.append(Line("after", Style(look.colour, width=1.2), x, after, hover=hover))
    found.append(Points("shots", Style(INK, "o"), list(support["x"]), list(support["y"])))
    return found
