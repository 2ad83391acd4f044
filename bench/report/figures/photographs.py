"""Accuracy on one's own photographs by how many there are, and what twice as many would bring."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from bench.report.figures.description import Figure, Line, Panel
from bench.report.figures.parts import around, heights, log_axis, note, score_axis
from bench.report.figures.styles import CHANCE, FLOOR, Style, styles
from bench.report.photographs import Classes, extrapolated, learning
from bench.report.rows import Comparison, Row
from bench.report.trials import Trials

NOTE = (
    "Bands: 95 % interval for other photographs of these classes. Dashed: an extrapolation to twice as "
    "many as there are, by a power law of the error fitted to the points; a guess, which has no interval."
)


def photographs(records: Iterable[Row], trials: Trials, classes: Classes) -> Figure:
    """Show test accuracy by photographs a class, extrapolated to twice as many as there are."""
    shown = learning(records, trials, classes)
    found = [comparison for comparison, *_ in shown]
    looks = styles((row for comparison in found for row in comparison.rows), found)
    panels = [_panel(comparison, curves, size, looks) for comparison, curves, size in shown]
    floors = {label.strip("*") for _, curves, _ in shown for label in curves if label[0] == "*"}
    dotted = f"Dotted: the floors, {', '.join(sorted(floors))}." if floors else ""
    return Figure(panels, note(found, NOTE, dotted), columns=1, height=3.2, width=6.0)


def _panel(
    comparison: Comparison,
    curves: Mapping[str, pd.DataFrame],
    size: int,
    looks: Mapping[str, Style],
) -> Panel:
    metric, lines = comparison.metric, []
    for label, curve in curves.items():
        x, y, halves = (list(curve[key]) for key in ("value", "score", "ci95"))
        name = label.strip("*")
        hover = [
            f"{name}\n{metric.text(*pair)}\n{at} photographs a class"
            for at, *pair in zip(x, y, halves, strict=True)
        ]
        if label not in looks:
            lines.append(Line(name, FLOOR, x, y, hover=hover))
            continue
        beyond = sorted({x[-1], size, 2 * size})
        guess = extrapolated(curve, beyond)
        said = [
            f"{name}\n{metric.text(value)}, extrapolated\n{at} photographs a class"
            for at, value in zip(beyond, guess, strict=True)
        ]
        dashed = replace(looks[label], marker="", kind=1)
        lines.append(Line(name, dashed, beyond, guess, hover=said))
        lines.append(Line(name, looks[label], x, y, around(y, halves), hover))
    places = sorted({int(value) for line in lines for value in line.x})
    ends = [places[0], places[-1]]
    ways = {row["ways"] for row in comparison.rows}
    if len(ways) == 1:
        chance = 100 / ways.pop()
        lines.append(Line("chance", CHANCE, ends, 2 * [chance]))
    x_axis = log_axis("Photographs a class in the support set (log scale)", (), 0.05, places)
    y_axis = score_axis(metric, heights(lines))
    return Panel(f"{comparison.title}, {size} photographs a class", x_axis, y_axis, lines)
