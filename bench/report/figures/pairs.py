"""All pairs of learners, as a matrix."""

import textwrap
from collections.abc import Iterable, Sequence
from math import nan

from bench.report.figures.description import Axis, Figure, Matrix, Panel
from bench.report.figures.parts import note
from bench.report.leaderboard import LEARNERS, MODELS, Leaderboard
from bench.report.tables import p_text

NOTE = (
    "Points (of errors, natural logarithms) by which the row is ahead of the column; ≈ is a tie. "
    "Colour: on how many {unit} one training of the row beats one of the column."
)
MODELS_NOTE = "In parentheses: one seed, an order of models, not of learners."


def pairs(boards: Iterable[Leaderboard]) -> Figure:
    """Show the difference of each pair of learners as a matrix, coloured by how often each wins."""
    several = [board for board in boards if board.pairs]
    most = max((len(board.standings) for board in several), default=0)
    return Figure(
        [_panel(board) for board in several],
        note(
            [board.comparison for board in several],
            NOTE.format(unit=units(several)),
            models_note(several),
        ),
        columns=1 if most > 5 else 2,
        height=1.6 + row_heights(several),
        width=max(7.2, 0.5 * most) if most > 5 else None,
        legend=False,
    )


def _panel(board: Leaderboard) -> Panel:
    names = [wrapped(entry.label) for entry in board.standings]
    ticks = {float(i): name for i, name in enumerate(names)}
    x = Axis(low=-0.5, high=len(names) - 0.5, ticks=ticks, grid=False)
    y = Axis(low=len(names) - 0.5, high=-0.5, ticks=ticks, grid=False)
    return Panel(board.title, x, y, matrix=matrix(board), place=board.place)


def matrix(board: Leaderboard) -> Matrix:
    """Return the win rate of row over column, and the difference as text.

    The diagonal is NaN and empty; ≈ marks a tie, parentheses two models.
    """
    order = [entry.label for entry in board.standings]
    wins = [[nan] * len(order) for _ in order]
    texts = [[""] * len(order) for _ in order]
    hover = [[""] * len(order) for _ in order]
    for pair in board.pairs:
        a, b = order.index(pair.first), order.index(pair.second)
        tie = "" if pair.significant else "≈ "
        for row, column, sign in ((a, b, 1), (b, a, -1)):
            share = pair.first_better if sign == 1 else 1 - pair.first_better
            text = f"{tie}{sign * pair.difference:+.1f}"
            wins[row][column] = share
            texts[row][column] = text if pair.of == LEARNERS else f"({text})"
            hover[row][column] = "\n".join(
                [
                    f"{order[row]} against {order[column]}",
                    f"{sign * pair.difference:+.2f} ± {pair.half:.2f} points ({pair.of})",
                    f"p {p_text(pair.p_corrected)}{': a tie' if tie else ''}",
                    f"one training beats one of the other on {100 * share:.0f} % of {board.unit}",
                ]
            )
    return Matrix(wins, texts, hover)


def models_note(boards: Iterable[Leaderboard]) -> str:
    """Return `MODELS_NOTE` if some ranks are of models only."""
    single = any(entry.of == MODELS for board in boards for entry in board.standings)
    return MODELS_NOTE if single else ""


def units(boards: Iterable[Leaderboard]) -> str:
    """Return what intervals and tests of the boards are over."""
    return " or ".join(sorted({board.unit for board in boards}))


def row_heights(boards: Sequence[Leaderboard]) -> float:
    """Return the height in inches that the longest list of learners needs."""
    lists = [[wrapped(entry.label) for entry in board.standings] for board in boards]
    return max(
        (sum(max(0.3, 0.15 * len(x.split("\n"))) for x in each) for each in lists), default=0
    )


def wrapped(label: str) -> str:
    """Return a label wrapped to fit beside an axis."""
    return textwrap.fill(label, 22)
