"""Style of all figures: colours, panels, legends, notes, ticks, and non-overlapping labels."""

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from bench.report.rows import DAGGER, TRANSDUCTIVE_NOTE, Comparison, Row, learners, shared_facts
from bench.tasks.base import Metric

# The Okabe-Ito palette, which is safe for colour-blind readers: four colours for the methods of
# this project, four for any other algorithm in the results folder.
KNOWN = {
    "maml": ("#0072B2", "o"),
    "reptile": ("#E69F00", "s"),
    "protonet": ("#009E73", "^"),
    "metaoptnet": ("#CC79A7", "D"),
}
OTHERS = (("#D55E00", "v"), ("#56B4E9", "P"), ("#000000", "X"), ("#F0E442", "h"))
# Learners that share a colour differ in these.
HATCHES = ("", "//////", "......", "xxxxxx", "------")
DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
FILLS = ("full", "none", "left", "bottom", "top")

DOTS = 200
INK, GREY = "#222222", "#666666"
CHANCE, FLOOR = (0, (3, 2)), (0, (1, 1))
"""Dash patterns of the lines for chance and for floors."""
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
MOST_TEXT = 120  # characters that fit between the points of a panel

P = ParamSpec("P")


@dataclass(frozen=True)
class Style:
    """Appearance of one learner in all figures."""

    colour: str
    marker: str
    kind: int

    def bar(self) -> dict[str, Any]:
        """Return keywords of a bar: filled for the first learner of a colour, else hatched."""
        filled = self.kind == 0
        face = self.colour if filled else "white"
        edge = INK if self.colour == OTHERS[3][0] else self.colour
        return {"facecolor": face, "edgecolor": edge, "hatch": HATCHES[self.kind % len(HATCHES)]}

    def point(self) -> dict[str, Any]:
        """Return keywords of a marker."""
        return {
            "marker": self.marker,
            "color": self.colour,
            "fillstyle": FILLS[self.kind % len(FILLS)],
            "markersize": 5,
            "markeredgewidth": 1.0,
            "markeredgecolor": INK if self.colour == OTHERS[3][0] else self.colour,
            "markerfacecoloralt": "white",
        }

    def line(self) -> dict[str, Any]:
        """Return keywords of a line with markers."""
        return {
            **self.point(),
            "markersize": 3.8,
            "linestyle": DASHES[self.kind % len(DASHES)],
            "linewidth": 1.1,
        }


def styles(rows: Iterable[Row], found: Iterable[Comparison] = ()) -> dict[str, Style]:
    """Return a style for each label of all `rows` and of the comparisons built from some of them.

    The project's methods have their own colour; their variants and peers share it and differ in
    hatch, dash and fill. Other learners take the remaining colours in the order of their names.
    """
    algos = {row["label"]: row["algo"] for row in rows}
    order = learners({"label": label, "algo": algo} for label, algo in algos.items())
    for comparison in found:
        algos |= {row["label"]: row["algo"] for row in comparison.rows}
        order += [label for label in comparison.labels if label not in order]

    looks: dict[str, Style] = {}
    strangers: list[str] = []
    for label in order:
        family = algos[label].rsplit("/", 1)[-1]
        if family in KNOWN:
            colour, marker = KNOWN[family]
            # Only the plain method is filled, even where its peers are shown without it.
            first = 0 if algos[label] == family else 1
        else:
            strangers += [algos[label]] if algos[label] not in strangers else []
            colour, marker = OTHERS[strangers.index(algos[label]) % len(OTHERS)]
            first = 0
        taken = [look.kind for look in looks.values() if look.colour == colour]
        looks[label] = Style(colour, marker, max([first, *(kind + 1 for kind in taken)]))
    return looks


def house_style(draw: Callable[P, Figure | None]) -> Callable[P, Figure | None]:
    """Make a function draw in the style of this project, regardless of the caller's rcParams."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure | None:
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return styled


def image(figure: Figure, kind: str) -> bytes:
    """Return a figure as 'png' or 'pdf' bytes without a date, so that rebuilds are identical."""
    metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure.savefig(buffer, format=kind, dpi=DOTS, metadata=metadata)
    return buffer.getvalue()


def new_figure(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` axes in at most `columns` columns.

    `width` (of the figure) and `height` (of a row of axes) are in inches.
    """
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width, height * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def labels_of(found: Iterable[Comparison]) -> list[str]:
    """Return the learners of all comparisons, in legend order."""
    return learners(row for comparison in found for row in comparison.rows)


def write_value(ax: Axes, x: float, y: float, text: str, upright: bool, colour: str = INK) -> None:
    """Write a number just above the point (x, y)."""
    ax.annotate(
        text,
        (x, y),
        (0, 2.5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        rotation=90 if upright else 0,
        fontsize=VALUE_SIZE,
        color=colour,
        path_effects=[withStroke(linewidth=1.5, foreground="white")],
    )


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Add a legend above the panels, in as many columns as fit; the figure grows accordingly."""
    for handle in handles:
        handle.set_label(wrap(str(handle.get_label()), 36))
    names = [str(handle.get_label()).split("\n") for handle in handles]
    longest = max(len(line) for name in names for line in name)
    columns = max(1, int(figure.get_figwidth() / (0.062 * longest + 0.5)))
    lines = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + 0.15 * lines * max(map(len, names)))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=math.ceil(len(handles) / lines),
        handlelength=2.6 if isinstance(handles[0], Line2D) else 1.6,
    )


def finish(figure: Figure, text: str, found: Iterable[Comparison]) -> None:
    """Write a note below the panels, explain the marks, and fix the layout."""
    if any(DAGGER in label for label in labels_of(found)):
        text += f" {TRANSDUCTIVE_NOTE}"
    if text:
        lines = math.ceil(len(text) / (figure.get_figwidth() * 20))
        text = wrap(text.strip(), len(text) // lines + 12)
        figure.supxlabel(text, fontsize=6.5, color=GREY)
    layout = figure.get_layout_engine()
    assert layout is not None
    layout.execute(figure)
    figure.set_layout_engine(None)  # otherwise each save would draw twice, to lay out again


def wrap(text: str, width: int) -> str:
    """Wrap text without separating a dagger from its word."""
    return textwrap.fill(text.replace("† ", "†\u00a0").replace(" †", "\u00a0†"), width)


def machine(found: Iterable[Comparison]) -> str:
    """Return a sentence on the machine that all of it was measured on."""
    rows = [row for comparison in found for row in comparison.rows]
    facts = shared_facts(rows, ("device", "device_name", "threads", "processes", "launcher"))
    return f"Measured with {facts}." if facts else ""


def panel_title(comparison: Comparison, setting: str) -> str:
    """Return the title of a setting of a comparison, wrapped to fit."""
    return textwrap.fill(f"{comparison.title}, {setting}", 48)


def score_axis(ax: Axes, metric: Metric, of: str = "Test") -> None:
    """Label the y axis by a metric, with ticks in percent or on a log scale where it has those."""
    ax.set_ylabel(metric.axis(of))
    if metric.scale == "log":
        ax.set_yscale("log")
    elif metric.unit == "%":
        percent_ticks(ax)


def bar_axis(ax: Axes, metric: Metric, tops: Sequence[float], upright: bool) -> None:
    """Set the y axis of bars from zero, with room for their values; of errors, on a log scale."""
    ax.set_ylabel(metric.axis())
    ax.grid(axis="y")
    top = max([*tops, metric.high or 0])
    if metric.scale == "log":
        ax.set_yscale("log")
        ax.set_ylim(min(tops) / 3, top * (6 if upright else 3))
    elif metric.unit == "%":
        ax.set_ylim(0, top + (15 if upright else 9))
        ax.set_yticks(range(0, 101, 20))


def percent_ticks(ax: Axes) -> None:
    """Remove ticks outside 0 to 100, where margins or intervals may extend."""
    low, high = ax.get_ylim()
    ax.set_yticks([tick for tick in ax.get_yticks() if max(low, 0) <= tick <= min(high, 100)])


def short(value: float, _: object = None) -> str:
    """Return a number as axis text: 0.5, 20, 1.5k; below 1, a prefix such as m would mislead."""
    return f"{value:g}" if abs(value) < 1 else str(EngFormatter(sep="")(value))


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Set plain tick labels (100, 1k, 10k) at decades, and between them if decades are few."""
    subs = (1.0, 2.0, 5.0) if high / low < 50 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(short)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def label_points(ax: Axes, points: Sequence[tuple[float, float, float, str]]) -> None:
    """Write the text of each (x, y, half-width, text) next to its point, without overlaps.

    The layout of the figure must be final. A label without room nearby gets a thin leader line.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    dot = figure.dpi / 72
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    frame = ax.get_window_extent(renderer)
    centres = [ax.transData.transform((x, y)) for x, y, _, _ in points]
    taken = []
    for (x, y, half, _), (cx, cy) in zip(points, centres, strict=True):
        low, high = (ax.transData.transform((x, y + sign * half))[1] for sign in (-1, 1))
        taken.append(Bbox([[cx - 4 * dot, cy - 4 * dot], [cx + 4 * dot, cy + 4 * dot]]))
        taken.append(Bbox([[cx - 3 * dot, low - dot], [cx + 3 * dot, high + dot]]))
    texts: list[Bbox] = []
    for (x, y, _, text), (cx, cy) in zip(points, centres, strict=True):
        text = wrap(text, 30)
        draft = ax.text(x, y, text, ha="center", va="center", fontsize=LABEL_SIZE)
        size = draft.get_window_extent(renderer).padded(dot)
        draft.remove()
        for offset in _around(size.width / 2, size.height / 2, dot):
            far, dx, dy = offset
            box = _moved_into(frame, size, cx + dx, cy + dy)
            dx, dy = (box.x0 + box.x1) / 2 - cx, (box.y0 + box.y1) / 2 - cy
            line = [(cx + part * dx / 20, cy + part * dy / 20) for part in range(20)]
            if not any(box.overlaps(other) for other in taken) and not any(
                other.contains(*spot) for other in texts for spot in line
            ):
                break
        texts.append(box)
        taken += [box, *(Bbox([spot, spot]).padded(dot) for spot in line)]
        ax.annotate(
            text,
            (x, y),
            (dx / dot, dy / dot),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=LABEL_SIZE,
            color=INK,
            zorder=1,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5} if far else None,
        )


def _around(width: float, height: float, dot: float) -> Iterator[tuple[bool, float, float]]:
    """Yield candidate offsets of a text of this half size from its point, nearest first.

    The first value says whether the text is so far from its point that it needs a leader line.
    """
    for far in range(0, 200, 6):
        for turn in range(16):
            angle = turn * math.pi / 8
            yield (
                far > 6,
                math.cos(angle) * (width + (5 + far) * dot),
                math.sin(angle) * (height + (5 + far) * dot),
            )


def _moved_into(frame: Bbox, size: Bbox, x: float, y: float) -> Bbox:
    """Return a box of this size around (x, y), or as near to it as the frame allows."""
    left = min(max(x - size.width / 2, frame.x0), frame.x1 - size.width)
    bottom = min(max(y - size.height / 2, frame.y0), frame.y1 - size.height)
    return Bbox.from_bounds(left, bottom, size.width, size.height)
