"""What a figure shows, without how it is drawn.

One file a figure makes it from rows; `bench.report.drawing` draws it on paper, and
`bench.report.interactive` on the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.report.figures.styles import Style


@dataclass(frozen=True)
class Axis:
    """An axis; ticks that are not given are up to what draws it, but within the bounds."""

    label: str = ""
    log: bool = False
    low: float | None = None
    high: float | None = None
    ticks: Mapping[float, str] = field(default_factory=dict)
    bounds: tuple[float | None, float | None] = (None, None)
    grid: bool = True


@dataclass(frozen=True)
class Series:
    """Values of a learner, or of what learners are compared with.

    ``ends`` are the lower and the upper ends of their intervals, if any.

    Of several series with one label, the legend shows the last. Nothing is drawn where ``y`` is NaN.
    ``hover`` holds a text for each value, whose first line is its title; empty if there is none.
    """

    label: str
    style: Style
    x: Sequence[float]
    y: Sequence[float]
    ends: Sequence[Sequence[float]] = ()
    hover: Sequence[str] = ()

    @property
    def tops(self) -> Sequence[float]:
        """The upper ends of the intervals, or the values."""
        return self.ends[1] if self.ends else self.y


@dataclass(frozen=True)
class Line(Series):
    """A line, with its intervals as a band."""


@dataclass(frozen=True)
class Points(Series):
    """Single points, with their intervals as error bars."""


@dataclass(frozen=True)
class Bars(Series):
    """Bars from zero of one width, with error bars, and on paper a text above each."""

    width: float = 1.0
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class Matrix:
    """Shares of 0 to 1 by row and column, with a text in each cell that is not NaN."""

    values: Sequence[Sequence[float]]
    texts: Sequence[Sequence[str]]
    hover: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Panel:
    """One plot; ``place`` is the setting that it is of, if any.

    ``brackets`` join places on the y axis, first to last, at the right of the panel.
    """

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series] = ()
    matrix: Matrix | None = None
    brackets: Sequence[tuple[int, int]] = ()
    place: str = ""

    @property
    def legend(self) -> dict[str, Series]:
        """The series that stand in the legend, by label."""
        return {series.label: series for series in self.series}


@dataclass(frozen=True)
class Figure:
    """Panels in rows of equal height, in inches, with a legend and a note; nothing without panels."""

    panels: Sequence[Panel]
    note: str = ""
    columns: int = 2
    height: float = 2.5
    width: float | None = None
    legend: bool = True
