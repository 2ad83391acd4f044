"""Figures of the leaderboards: ranks with ties, and all pairs."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.report.drawing import (
    FLOOR,
    GREY,
    INK,
    LABEL_SIZE,
    VALUE_SIZE,
    finish,
    house_style,
    new_figure,
    panel_title,
    styles,
)
from bench.report.leaderboard import LEARNERS, LEVEL, MODELS, Leaderboard

LEARNER_WIDTH = 22
RANKING_NOTE = (
    "Thick: 95 % interval over episodes, and seeds where there are several; thin: other classes as well. "
    f"Grey bars join ties (corrected p of {LEVEL} or more)."
)
PAIRS_NOTE = (
    "Points (of errors, natural logarithms) by which the row is ahead of the column; ≈ is a tie. "
    "Colour: on how many "
    "episodes one training of the row beats one of the column."
)
MODELS_NOTE = "In parentheses: one seed, an order of models, not of learners."


def figures(boards: Iterable[Leaderboard]) -> dict[str, Figure | None]:
    """Return all figures by name, None if no setting has two learners."""
    several = [board for board in boards if board.pairs]
    if not several:
        return {"ranking": None, "pairs": None}
    return {"ranking": ranking(several), "pairs": pairs(several)}


@house_style
def ranking(boards: Sequence[Leaderboard]) -> Figure | None:
    """Draw learners in the order of rank with both intervals, and bars that join ties."""
    found = [board.comparison for board in boards]
    looks = styles((row for comparison in found for row in comparison.rows), found)
    width = 7.2 if len(boards) > 1 else 4.8
    figure, axes = new_figure(len(boards), 2, width, 1.0 + _height_of_rows(boards))
    figure.set_layout_engine("constrained", w_pad=0.15)  # room for the bars of ties
    for ax, board in zip(axes, boards, strict=True):
        for place, entry in enumerate(board.standings):
            look = looks[entry.label]
            bar: dict[str, Any] = {"linestyle": "none", "ecolor": look.colour}
            ax.errorbar(
                entry.score,
                place,
                xerr=entry.half,
                elinewidth=2.6,
                **bar,
                **look.point(),
            )
            if entry.half_classes is not None:
                ax.errorbar(
                    entry.score,
                    place,
                    xerr=entry.half_classes,
                    elinewidth=0.8,
                    capsize=2.5,
                    **bar,
                )
        names = [f"{wrapped(entry.label)}  {entry.short_rank}" for entry in board.standings]
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        for column, (first, last) in enumerate(ties(board)):
            x = 1.02 + 0.03 * column
            ax.plot(
                [x, x],
                [first - 0.15, last + 0.15],
                transform=ax.get_yaxis_transform(),
                clip_on=False,
                color=GREY,
                linewidth=2.6,
            )
        for entry in board.floors:
            ax.axvline(entry.score, color=INK, linestyle=FLOOR, linewidth=1.2)
        ax.grid(axis="x")
        ax.set_xlabel(board.comparison.metric.axis())
        if board.comparison.metric.scale == "log":
            ax.set_xscale("log")
        ax.set_title(panel_title(board.comparison, board.setting))
    finish(figure, noted(ranking_note(boards), boards), found)
    return figure


@house_style
def pairs(boards: Sequence[Leaderboard]) -> Figure | None:
    """Draw the difference of each pair of learners as a matrix, coloured by how often each wins."""
    wide = max(len(board.standings) for board in boards) > 5
    width = 7.2 if wide or len(boards) > 1 else 4.8
    figure, axes = new_figure(len(boards), 1 if wide else 2, width, 1.6 + _height_of_rows(boards))
    for ax, board in zip(axes, boards, strict=True):
        _matrix(ax, board)
    finish(figure, noted(PAIRS_NOTE, boards), [board.comparison for board in boards])
    return figure


def noted(note: str, boards: Iterable[Leaderboard]) -> str:
    """Return a note, extended by `MODELS_NOTE` if some ranks are of models only."""
    single = any(entry.of == MODELS for board in boards for entry in board.standings)
    return f"{note} {MODELS_NOTE}" if single else note


def ranking_note(boards: Iterable[Leaderboard]) -> str:
    """Return a note on what intervals, bars and the lines of floors mean."""
    names = dict.fromkeys(entry.label for board in boards for entry in board.floors)
    return RANKING_NOTE + (f" Dotted: the floor, {', '.join(names)}." if names else "")


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


def matrix(board: Leaderboard) -> tuple[list[str], NDArray[np.float64], list[list[str]]]:
    """Return the learners, the win rate of row over column, and the difference as text.

    The diagonal is NaN and empty; ≈ marks a tie, parentheses two models.
    """
    order = [entry.label for entry in board.standings]
    wins = np.full((len(order), len(order)), np.nan)
    texts = [[""] * len(order) for _ in order]
    for pair in board.pairs:
        a, b = order.index(pair.first), order.index(pair.second)
        wins[a, b], wins[b, a] = pair.first_better, 1 - pair.first_better
        mark = "" if pair.significant else "≈ "
        form = f"{mark}{{:+.1f}}" if pair.of == LEARNERS else f"({mark}{{:+.1f}})"
        texts[a][b], texts[b][a] = (form.format(x) for x in (pair.difference, -pair.difference))
    return order, wins, texts


def _matrix(ax: Axes, board: Leaderboard) -> None:
    order, wins, texts = matrix(board)
    for row, column in np.argwhere(~np.isnan(wins)):
        ax.annotate(
            texts[row][column],
            (column, row),
            ha="center",
            va="center",
            fontsize=VALUE_SIZE,
            color="white" if abs(wins[row, column] - 0.5) > 0.25 else INK,
        )
    ax.imshow(wins, cmap=matplotlib.colormaps["PuOr"], vmin=0, vmax=1, aspect="auto")
    names = [wrapped(label) for label in order]
    ax.set_xticks(range(len(order)), names, rotation=90, fontsize=LABEL_SIZE)
    ax.set_yticks(range(len(order)), names, fontsize=LABEL_SIZE)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(panel_title(board.comparison, board.setting))


def _height_of_rows(boards: Iterable[Leaderboard]) -> float:
    """Return the height in inches that the longest list of learners needs."""
    return max(
        sum(max(0.3, 0.15 * len(wrapped(entry.label).split("\n"))) for entry in board.standings)
        for board in boards
    )


def wrapped(label: str) -> str:
    """Return a label wrapped to fit beside an axis."""
    return textwrap.fill(label, LEARNER_WIDTH)
