"""Ranks of learners, with ties."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from bench.report.figures.description import Axis, Figure, Line, Panel, Points, Series
from bench.report.figures.pairs import models_note, row_heights, units, wrapped
from bench.report.figures.parts import note, score_axis
from bench.report.figures.styles import FLOOR, Style, styles
from bench.report.leaderboard import LEVEL, Leaderboard, Standing
from bench.tasks.base import Metric

NOTE = (
    "Thick: 95 % interval over {unit}, and seeds where there are several; thin: other classes as well. "
    f"Grey bars join ties (corrected p of {LEVEL} or more)."
)


def ranking(boards: Iterable[Leaderboard]) -> Figure:
    """Show learners in the order of rank with both intervals, and brackets that join ties."""
    several = [board for board in boards if board.pairs]
    found = [board.comparison for board in several]
    looks = styles((row for comparison in found for row in comparison.rows), found)
    floors = dict.fromkeys(entry.label for board in several for entry in board.floors)
    dotted = f"Dotted: the floor, {', '.join(floors)}." if floors else ""
    return Figure(
        [_panel(board, looks) for board in several],
        note(found, NOTE.format(unit=units(several)), dotted, models_note(several)),
        height=1.0 + row_heights(several),
        legend=False,
    )


def _panel(board: Leaderboard, looks: Mapping[str, Style]) -> Panel:
    metric, last = board.comparison.metric, len(board.standings) - 0.5
    series: list[Series] = []
    for place, entry in enumerate(board.standings):
        look = looks[entry.label]
        for half, width in ((entry.ci95_classes, 0.9), (entry.half, 2.6)):
            if half is not None:
                across = replace(look, marker="", kind=0, width=width)
                ends = [entry.score - half, entry.score + half]
                series.append(Line(entry.label, across, ends, [place, place]))
        hover = _hover(entry, metric, board.unit)
        series.append(Points(entry.label, look, [entry.score], [place], hover=[hover]))
    for entry in board.floors:
        hover = f"{entry.label}, the floor\n{metric.text(entry.score)}"
        series.append(Line(entry.label, FLOOR, 2 * [entry.score], [-0.5, last], hover=2 * [hover]))
    ends = [value for each in series for value in each.x]
    names = [f"{wrapped(entry.label)}  {entry.short_rank}" for entry in board.standings]
    ticks = {float(i): name for i, name in enumerate(names)}
    y = Axis(low=last, high=-0.5, ticks=ticks, grid=False)
    x = score_axis(metric, ends)
    return Panel(board.title, x, y, series, brackets=ties(board), place=board.place)


def _hover(entry: Standing, metric: Metric, unit: str) -> str:
    lines = [entry.label, f"rank {entry.rank}", metric.text(entry.score)]
    for half, what in (
        (entry.ci95_episodes, unit),
        (entry.ci95_seeds_and_episodes, f"seeds and {unit}"),
        (entry.ci95_classes, "classes as well"),
    ):
        lines += [] if half is None else [f"± {half:.3g} {metric.unit} ({what})"]
    return "\n".join(lines)


def ties(board: Leaderboard) -> list[tuple[int, int]]:
    """Return the maximal ranges (first, last) of the standings without a significant difference."""
    order = [entry.label for entry in board.standings]
    apart = {frozenset((pair.first, pair.second)) for pair in board.pairs if pair.significant}
    runs: list[tuple[int, int]] = []
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and not any(
            frozenset((order[last + 1], other)) in apart for other in order[first : last + 1]
        ):
            last += 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
