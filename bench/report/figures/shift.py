"""Trained learners on other data sets than their own."""

from collections.abc import Iterable, Mapping

from bench.report.figures.description import Figure, Panel
from bench.report.figures.parts import Bar, bar_axis, bars, levels, note, panel, score_bar
from bench.report.figures.styles import CHANCE, Style, styles
from bench.report.rows import Comparison, Row, score
from bench.report.shifts import Shifts, shifted, transfer_settings

NOTE = (
    "The first group is the test on the data set trained on. Error bars: 95 % interval over episodes of "
    "one trained model, or for other seeds and episodes where there are several."
)


def shift(records: Iterable[Row], shifts: Shifts) -> Figure:
    """Show test scores on the learners' own data set and on others, as bars from zero."""
    shown = transfer_settings(records, shifts)
    found = [comparison for comparison, _ in shown]
    looks = styles((row for comparison in found for row in comparison.rows), found)
    panels = [_panel(comparison, setting, shifts, looks) for comparison, setting in shown]
    return Figure(panels, note(found, NOTE), columns=1, height=2.3, width=7.2)


def _panel(
    comparison: Comparison, setting: str, shifts: Shifts, looks: Mapping[str, Style]
) -> Panel:
    metric, own = comparison.metric, f"{comparison.rows[0]['dataset']} (own)"
    found: dict[str, dict[str, Bar]] = {}
    for label, tests in shifted(comparison, setting, shifts).items():
        scores = {own: score(comparison.at(label, setting))}
        scores |= {name: test.score for name, test in tests.items()}
        found[label] = {name: score_bar(metric, label, name, s) for name, s in scores.items()}
    others = sorted({name for cells in found.values() for name in cells} - {own})
    x, drawn = bars([own, *others], found, looks)
    ways = next(row["ways"] for row in comparison.rows if row["setting"] == setting)
    chances = [
        (group, 100 / ways, "chance")
        for group in range(1 + len(others))
        if ways and metric.name == "accuracy"
    ]
    lines = [levels("chance", CHANCE, chances, metric)] if chances else []
    return panel(comparison, setting, x, bar_axis(metric, drawn), [*drawn, *lines], "trained for ")
