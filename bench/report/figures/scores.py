"""Test scores with their intervals, by setting."""

from collections.abc import Iterable, Mapping
from math import nan

from bench.report.figures.description import Figure, Panel
from bench.report.figures.parts import Bar, bar_axis, bars, levels, note, score_bar
from bench.report.figures.styles import CHANCE, FLOOR, Style, styles
from bench.report.rows import (
    SCORE,
    Comparison,
    Row,
    comparisons,
    done,
    interval_note,
    learners,
    score,
    with_labels,
)


def scores(records: Iterable[Row]) -> Figure:
    """Show test scores of one metric as bars, grouped by setting, with floors and chance."""
    rows = with_labels(records)
    found = comparisons(rows, SCORE) if done(rows) else []
    looks = styles(rows, found)
    most = max((len(c.labels) * len(c.settings) for c in found), default=0)
    return Figure(
        [_panel(comparison, looks) for comparison in found],
        note(found, f"Error bars: {interval_note(found)}."),
        columns=1,
        height=2.6,
        width=4.8 if most <= 6 else max(7.2, 0.2 * most),
    )


def _panel(comparison: Comparison, looks: Mapping[str, Style]) -> Panel:
    metric, settings = comparison.metric, comparison.settings
    found: dict[str, dict[str, Bar]] = {label: {} for label in comparison.labels}
    for label, cells in found.items():
        for setting in settings:
            if seeds := comparison.at(label, setting):
                cells[setting] = score_bar(metric, label, setting, score(seeds))
            elif comparison.at(label, setting, "failed"):
                cells[setting] = Bar(nan, nan, "failed", f"{label}\n{setting}\nfailed")
    x, drawn = bars(settings, found, looks)
    lines = []
    if names := learners(comparison.floors):
        floors = [
            (settings.index(row["setting"]), row["score"], f"{row['label']}, a floor")
            for setting in settings
            for row in comparison.floors_at(setting)
        ]
        lines.append(levels(f"floor: {', '.join(names)}", FLOOR, floors, metric))
    ways = {row["setting"]: row["ways"] for row in comparison.rows if row["ways"]}
    if ways and metric.name == "accuracy":
        chances = [(settings.index(s), 100 / count, "chance") for s, count in ways.items()]
        lines.append(levels("chance", CHANCE, chances, metric))
    series = [*drawn, *lines]
    return Panel(comparison.title, x, bar_axis(metric, series), series)
