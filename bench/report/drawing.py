"""Figures drawn by matplotlib, in the house style: panels, legends, notes, and labels apart."""

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis as Ticks
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from bench.report.figures.description import Axis, Bars, Figure, Line, Matrix, Panel, Points, Series
from bench.report.figures.parts import short
from bench.report.figures.styles import GREY, INK, Style

# Learners that share a colour differ in these.
HATCHES = ("", "//////", "......", "xxxxxx", "------")
DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
FILLS = ("full", "none", "left", "bottom", "top")

DOTS = 200
RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
}
VALUE_SIZE, LABEL_SIZE = 6.5, 7


def image(figure: Figure, kind: str) -> bytes:
    """Return a figure as 'png' or 'pdf' bytes without a date, so that rebuilds are identical."""
    metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC):
        draw(figure).savefig(buffer, format=kind, dpi=DOTS, metadata=metadata)
    return buffer.getvalue()


def draw(figure: Figure) -> Drawing:
    """Draw a figure that has panels, regardless of the caller's rcParams."""
    with matplotlib.rc_context(RC):
        width = figure.width or (7.2 if len(figure.panels) > 1 else 4.8)
        columns = min(figure.columns, len(figure.panels))
        rows = math.ceil(len(figure.panels) / columns)
        drawing = Drawing(figsize=(width, figure.height * rows + 0.3), layout="constrained")
        FigureCanvasAgg(drawing)
        if any(panel.brackets for panel in figure.panels):
            drawing.set_layout_engine("constrained", w_pad=0.15)
        axes = [drawing.add_subplot(rows, columns, i + 1) for i in range(len(figure.panels))]
        for ax, panel in zip(axes, figure.panels, strict=True):
            _panel(ax, panel, width / columns)
        legend = {label: each for panel in figure.panels for label, each in panel.legend.items()}
        if figure.legend:
            _legend(drawing, [_key(label, series) for label, series in legend.items()])
        if figure.note:
            lines = math.ceil(len(figure.note) / (width * 20))
            text = wrap(figure.note, len(figure.note) // lines + 12)
            drawing.supxlabel(text, fontsize=6.5, color=GREY)
        layout = drawing.get_layout_engine()
        assert layout is not None
        layout.execute(drawing)
        drawing.set_layout_engine(None)  # otherwise each save would draw twice, to lay out again
        return drawing


def _panel(ax: Axes, panel: Panel, width: float) -> None:
    """Draw a panel that is ``width`` inches wide with its labels."""
    for axis, ticks in ((panel.x, ax.xaxis), (panel.y, ax.yaxis)):
        name = ticks.axis_name
        ax.set(**{f"{name}label": axis.label, f"{name}scale": "log" if axis.log else "linear"})
        ticks.grid(axis.grid)
    for series in panel.series:
        _draw(ax, series)
    if panel.matrix:
        _matrix(ax, panel.matrix)
    for column, (first, last) in enumerate(panel.brackets):
        x, across = 2 * [1.02 + 0.03 * column], ax.get_yaxis_transform()
        ends = [first - 0.15, last + 0.15]
        ax.plot(x, ends, transform=across, clip_on=False, color=GREY, linewidth=2.6)
    ax.set_xlim(panel.x.low, panel.x.high)
    ax.set_ylim(panel.y.low, panel.y.high)
    bars = [series for series in panel.series if isinstance(series, Bars)]
    if bars:
        _write_values(ax, bars, width)
    for axis, ticks in ((panel.x, ax.xaxis), (panel.y, ax.yaxis)):
        _ticks(ticks, axis)
    ax.set_title(wrap(panel.title, int(15 * (width - 0.5))))


def _ticks(ticks: Ticks, axis: Axis) -> None:
    """Set the ticks of an axis: none outside its bounds, where margins and intervals may extend."""
    ticks.set_major_formatter(short)
    if axis.ticks:
        ticks.set_ticks(list(axis.ticks), labels=list(axis.ticks.values()))
        ticks.set_minor_locator(NullLocator())
    else:
        (low, high), (least, most) = sorted(ticks.get_view_interval()), axis.bounds
        low, high = (
            max(low, low if least is None else least),
            min(high, high if most is None else most),
        )
        ticks.set_ticks([tick for tick in ticks.get_majorticklocs() if low <= tick <= high])


def _draw(ax: Axes, series: Series) -> None:
    look, x, y = series.style, series.x, series.y
    if isinstance(series, Line):
        if series.ends:
            low, high = series.ends
            ax.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0)
        ax.plot(x, y, markevery=max(1, len(x) // 6), **_line(look))
    elif isinstance(series, Points):
        points = _point(look) | {"ecolor": look.colour, "linestyle": "none"}
        ax.errorbar(x, y, _errors(series), capsize=2, elinewidth=1.0, **points)
    elif isinstance(series, Bars):
        ax.bar(x, y, series.width, linewidth=0.8, **_bar(look))
        ends = _errors(series)
        ax.errorbar(x, y, ends, fmt="none", ecolor=INK, capsize=1.5, elinewidth=0.7)


def _errors(series: Series) -> NDArray[np.float64] | None:
    """Return the lengths of error bars below and above each value."""
    return np.abs(np.array(series.ends) - series.y) if series.ends else None


def _write_values(ax: Axes, bars: Sequence[Bars], width: float) -> None:
    """Write the text of each bar above it, upright where it is narrow, and make room for that."""
    low, high = ax.get_xlim()
    upright = bars[0].width * 72 * (width - 0.7) / (high - low) < 21
    (bottom, top), scale = ax.get_ylim(), ax.yaxis.get_transform()
    ends = scale.transform([bottom, top])
    room = (0.25 if upright else 0.1) * (ends[1] - ends[0])
    ax.set_ylim(bottom, scale.inverted().transform([ends[1] + room])[0])
    for series in bars:
        for x, y, text in zip(series.x, series.tops, series.texts, strict=True):
            failed = math.isnan(y)
            ax.annotate(
                text,
                (x, 0 if failed else y),
                (0, 2.5),
                xycoords=("data", "axes fraction" if failed else "data"),
                textcoords="offset points",
                ha="center",
                va="bottom",
                rotation=90 if upright or failed else 0,
                fontsize=VALUE_SIZE,
                color=GREY if failed else INK,
                path_effects=[withStroke(linewidth=1.5, foreground="white")],
            )


def _matrix(ax: Axes, matrix: Matrix) -> None:
    for (row, column), value in np.ndenumerate(np.array(matrix.values)):
        colour = "white" if abs(value - 0.5) > 0.25 else INK
        text = matrix.texts[row][column]
        ax.text(column, row, text, ha="center", va="center", fontsize=VALUE_SIZE, color=colour)
    ax.imshow(matrix.values, cmap=matplotlib.colormaps["PuOr"], vmin=0, vmax=1, aspect="auto")
    ax.tick_params(length=0, labelsize=LABEL_SIZE)
    ax.tick_params(axis="x", rotation=90)
    ax.spines[:].set_visible(False)


def _bar(look: Style) -> dict[str, Any]:
    """Return keywords of a bar: filled for the first learner of a colour, else hatched."""
    face = look.colour if look.kind == 0 else "white"
    hatch = HATCHES[look.kind % len(HATCHES)]
    return {"facecolor": face, "edgecolor": look.edge, "hatch": hatch}


def _point(look: Style) -> dict[str, Any]:
    """Return keywords of a marker."""
    return {
        "marker": look.marker,
        "color": look.colour,
        "fillstyle": FILLS[look.kind % len(FILLS)],
        "markersize": 5,
        "markeredgewidth": 1.0,
        "markeredgecolor": look.edge,
        "markerfacecoloralt": "white",
    }


def _line(look: Style) -> dict[str, Any]:
    """Return keywords of a line, with markers if there are any."""
    return {
        **_point(look),
        "markersize": 3.8,
        "linestyle": DASHES[look.kind % len(DASHES)],
        "linewidth": look.width,
        "alpha": look.opacity,
    }


def _key(label: str, series: Series) -> Artist:
    """Return the entry of a series in the legend."""
    name = wrap(label, 36)
    if isinstance(series, Bars):
        return Patch(label=name, linewidth=0.8, **_bar(series.style))
    look = _point(series.style) if isinstance(series, Points) else _line(series.style)
    return Line2D([], [], label=name, **({"linestyle": "none"} | look))


def _legend(drawing: Drawing, handles: Sequence[Artist]) -> None:
    """Add a legend above the panels, in as many columns as fit; the figure grows accordingly."""
    names = [str(handle.get_label()).split("\n") for handle in handles]
    longest = max(len(line) for name in names for line in name)
    columns = max(1, int(drawing.get_figwidth() / (0.062 * longest + 0.5)))
    lines = math.ceil(len(handles) / columns)
    drawing.set_figheight(drawing.get_figheight() + 0.15 * lines * max(map(len, names)))
    drawing.legend(
        handles=handles,
        loc="outside upper center",
        ncols=math.ceil(len(handles) / lines),
        handlelength=2.6 if isinstance(handles[0], Line2D) else 1.6,
    )


def wrap(text: str, width: int) -> str:
    """Wrap text without separating a dagger from its word."""
    return textwrap.fill(text.replace("† ", "†\u00a0").replace(" †", "\u00a0†"), width)
