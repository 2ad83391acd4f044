"""Parts that several figures have: axes, groups of bars, settings and notes."""

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.ticker import EngFormatter

from bench.report.figures.description import Axis, Bars, Line, Panel, Series
from bench.report.figures.styles import Style
from bench.report.rows import DAGGER, TRANSDUCTIVE_NOTE, Comparison, Score, shared_facts
from bench.tasks.base import Metric


class Bar(NamedTuple):
    """One bar: its height (NaN if it failed), half-width of its interval, and texts."""

    height: float
    half: float
    text: str
    hover: str


def settings_of(found: Iterable[Comparison]) -> list[tuple[Comparison, str]]:
    """Return each comparison with each of its settings."""
    return [(comparison, setting) for comparison in found for setting in comparison.settings]


def panel(
    comparison: Comparison, setting: str, x: Axis, y: Axis, series: Sequence[Series], said: str = ""
) -> Panel:
    """Return the panel of a setting of a comparison, under what is ``said`` of the setting."""
    title = f"{comparison.title}, {said}{setting}"
    return Panel(title, x, y, series, place=comparison.place(setting))


def heights(series: Iterable[Series]) -> list[float]:
    """Return all values of series and the upper ends of their intervals."""
    return [y for each in series for y in (*each.y, *each.tops) if math.isfinite(y)]


def score_axis(metric: Metric, values: Iterable[float], of: str = "Test") -> Axis:
    """Return the axis of a metric, which is logarithmic around the values where the metric is."""
    if metric.scale == "log":
        return log_axis(metric.axis(of), values)
    return Axis(metric.axis(of), bounds=(metric.low, metric.high))


def bar_axis(metric: Metric, series: Iterable[Series]) -> Axis:
    """Return the axis of bars from zero, to the highest possible score if there is one."""
    if metric.scale == "log":
        return log_bar_axis(metric.axis(), heights(series))
    high = None if metric.high is None else max([*heights(series), metric.high])
    return Axis(metric.axis(), low=metric.low, high=high, bounds=(metric.low, metric.high))


def log_bar_axis(label: str, values: Iterable[float]) -> Axis:
    """Return the logarithmic axis of bars of these heights."""
    found = [value for value in values if value > 0]
    return log_axis(label, [min(found) / 3, *found] if found else [], 0.02)


def log_axis(
    label: str, values: Iterable[float], room: float = 0.2, at: Collection[int] = ()
) -> Axis:
    """Return a logarithmic axis with ``room`` around the values, in decades.

    Ticks are where they are wanted, or at decades, and between them if decades are few.
    """
    logs = [math.log10(value) for value in (*values, *at) if value > 0] or [0.0]
    room += 0.08 * (max(logs) - min(logs))
    low, high = min(logs) - room, max(logs) + room
    factors = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [
        factor * 10.0**decade
        for decade in range(math.floor(low), math.ceil(high) + 1)
        for factor in factors
        if low <= math.log10(factor) + decade <= high
    ]
    return Axis(label, True, 10**low, 10**high, {each: short(each) for each in sorted(at) or ticks})


def short(value: float, _: object = None) -> str:
    """Return a number as axis text: 0.5, 20, 1.5k; below 1, a prefix such as m would mislead."""
    return f"{value:g}" if abs(value) < 1 else str(EngFormatter(sep="")(value))


def bars(
    groups: Sequence[str], found: Mapping[str, Mapping[str, Bar]], looks: Mapping[str, Style]
) -> tuple[Axis, list[Bars]]:
    """Return the x axis of groups of bars, and the bars, given by label and group.

    The distance of two groups is 1.
    """
    pitch = min(0.25, 0.84 / max(1, len(found)))
    margin = 0.55 if len(groups) > 1 else 0.65
    ticks = {float(i): textwrap.fill(group, 14) for i, group in enumerate(groups)}
    axis = Axis(low=-margin, high=len(groups) - 1 + margin, ticks=ticks, grid=False)
    drawn = []
    for i, (label, cells) in enumerate(found.items()):
        offset = (i - (len(found) - 1) / 2) * pitch
        x = [place + offset for place, group in enumerate(groups) if group in cells]
        kept = [cells[group] for group in groups if group in cells]
        y, halves = [bar.height for bar in kept], [bar.half for bar in kept]
        ends = around(y, halves) if any(halves) else ()
        hover, texts = [bar.hover for bar in kept], [bar.text for bar in kept]
        drawn.append(Bars(label, looks[label], x, y, ends, hover, 0.86 * pitch, texts))
    return axis, drawn


def around(values: Iterable[float], halves: Iterable[float]) -> list[list[float]]:
    """Return the ends of intervals of these half-widths."""
    both = list(zip(values, halves, strict=True))
    return [[value + sign * half for value, half in both] for sign in (-1, 1)]


def score_bar(metric: Metric, label: str, group: str, found: Score) -> Bar:
    """Return the bar of a score."""
    hover = f"{label}\n{group}\n{metric.text(found.mean, found.half)}"
    return Bar(found.mean, found.half, metric.number(found.mean), hover)


def levels(
    label: str, style: Style, found: Iterable[tuple[int, float, str]], metric: Metric
) -> Line:
    """Return a line across groups of bars at each (place of the group, score, name)."""
    x, y, hover = [], [], []
    for group, value, name in found:
        x += [group - 0.47, group + 0.47, math.nan]
        y += [value, value, math.nan]
        hover += 3 * [f"{name}\n{metric.text(value)}"]
    return Line(label, style, x, y, hover=hover)


def note(found: Iterable[Comparison], *sentences: str) -> str:
    """Return the sentences that there are, and what the marks of labels mean."""
    transductive = any(DAGGER in label for comparison in found for label in comparison.labels)
    return " ".join(filter(None, [*sentences, TRANSDUCTIVE_NOTE if transductive else ""]))


def machine(found: Iterable[Comparison]) -> str:
    """Return a sentence on the machine that all of it was measured on."""
    rows = [row for comparison in found for row in comparison.rows]
    facts = shared_facts(rows, ("device", "device_name", "threads", "processes", "launcher"))
    return f"Measured with {facts}." if facts else ""
