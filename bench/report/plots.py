"""Figures of the stored rows.

Every function takes the records (and the learning curves) and gives a Figure or None when there
is nothing to show. No global state of matplotlib is read or changed for longer than a call.
"""

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from bench.report.rows import (
    ACCURACY,
    BOTH,
    DAGGER,
    THROUGHPUT,
    TRANSDUCTIVE_NOTE,
    Comparison,
    Row,
    comparisons,
    done,
    interval_note,
    labelled,
    learners,
    rate,
    saturation,
    score,
    shared_facts,
)
from bench.report.tables import PHASES

# The Okabe-Ito colours, which stay apart for colour-blind readers: four for the methods of this
# project, four for whatever else is in the results folder.
KNOWN = {
    "maml": ("#0072B2", "o"),
    "reptile": ("#E69F00", "s"),
    "protonet": ("#009E73", "^"),
    "metaoptnet": ("#CC79A7", "D"),
}
OTHERS = (("#D55E00", "v"), ("#56B4E9", "P"), ("#000000", "X"), ("#F0E442", "h"))
# Learners of one colour differ in this.
HATCHES = ("", "//////", "......", "xxxxxx", "------")
DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
FILLS = ("full", "none", "left", "bottom", "top")

DOTS = 200
INK, GREY = "#222222", "#666666"
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
MOST_TEXT = 120  # characters that find room between the points of a panel

Records = Iterable[Row]
Curves = Mapping[str, pd.DataFrame]
P = ParamSpec("P")


@dataclass(frozen=True)
class Style:
    """How one learner looks in every figure."""

    colour: str
    marker: str
    kind: int

    def bar(self) -> dict[str, Any]:
        """Keywords of a bar: filled for the first learner of a colour, hatched for others."""
        filled = self.kind == 0
        face = self.colour if filled else "white"
        edge = INK if self.colour == OTHERS[3][0] else self.colour
        return {"facecolor": face, "edgecolor": edge, "hatch": HATCHES[self.kind % len(HATCHES)]}

    def point(self) -> dict[str, Any]:
        """Keywords of a marker."""
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
        """Keywords of a line with markers."""
        return {
            **self.point(),
            "markersize": 3.8,
            "linestyle": DASHES[self.kind % len(DASHES)],
            "linewidth": 1.1,
        }


def styles(rows: Iterable[Row], found: Iterable[Comparison] = ()) -> dict[str, Style]:
    """A style for each label of all `rows` and of the comparisons made of some of them.

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
            # Only the plain method is filled, also where its peers are shown without it.
            first = 0 if algos[label] == family else 1
        else:
            strangers += [algos[label]] if algos[label] not in strangers else []
            colour, marker = OTHERS[strangers.index(algos[label]) % len(OTHERS)]
            first = 0
        taken = [look.kind for look in looks.values() if look.colour == colour]
        looks[label] = Style(colour, marker, max([first, *(kind + 1 for kind in taken)]))
    return looks


def _in_house_style(draw: Callable[P, Figure | None]) -> Callable[P, Figure | None]:
    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure | None:
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return styled


def figures(records: Records, curves: Curves) -> dict[str, Figure | None]:
    """All figures by name, None without something to show; `curves` maps cells to their history."""
    records = list(records)
    return {
        "accuracy": accuracy(records),
        "learning_curves_episodes": learning_curves(records, curves, "episodes"),
        "learning_curves_seconds": learning_curves(records, curves, "seconds"),
        "throughput": throughput(records),
        "throughput_meta_batch": throughput_meta_batch(records),
        "accuracy_throughput": accuracy_throughput(records),
    }


def image(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a 'png' or 'pdf' that hold no date, so that rebuilds are equal."""
    metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure.savefig(buffer, format=kind, dpi=DOTS, metadata=metadata)
    return buffer.getvalue()


@_in_house_style
def accuracy(records: Records) -> Figure | None:
    """Test accuracy as bars from zero with 95 % intervals, grouped by setting."""
    rows = labelled(records)
    if not done(rows):
        return None
    found = comparisons(rows, ACCURACY)
    looks = styles(rows, found)
    bars = max(len(c.labels) * len(c.settings) for c in found)
    width = 4.8 if bars <= 6 else max(7.2, 0.2 * bars)
    figure, axes = _panels(len(found), 1, width, 2.6)
    for ax, comparison in zip(axes, found, strict=True):
        pitch = _group_pitch(len(comparison.labels))
        points = (width - 0.8) * 72 * pitch / max(1.3, len(comparison.settings))
        upright = points < 24
        tops = [100.0]
        for x, label, setting in _bar_places(ax, comparison.labels, comparison.settings, pitch):
            seeds = comparison.at(label, setting)
            if seeds:
                result = score(seeds)
                ax.bar(x, result.mean, 0.86 * pitch, linewidth=0.8, **looks[label].bar())
                ax.errorbar(x, result.mean, result.half, color=INK, capsize=1.5, linewidth=0.7)
                _value(ax, x, result.mean + result.half, f"{result.mean:.1f}", upright)
                tops.append(result.mean + result.half)
            elif comparison.at(label, setting, "failed"):
                _value(ax, x, 0, "failed", True, GREY)
        for group, setting in enumerate(comparison.settings):
            ways = next(row["ways"] for row in comparison.rows if row["setting"] == setting)
            ax.hlines(100 / ways, group - 0.47, group + 0.47, INK, linestyles=(0, (3, 2)), lw=0.9)
        ax.set_ylim(0, max(tops) + (15 if upright else 9))
        ax.set_yticks(range(0, 101, 20))
        ax.set_ylabel("Test accuracy (%)")
        ax.grid(axis="y")
        ax.set_title(textwrap.fill(comparison.title, int(width * 14)))
    chance = Line2D([], [], color=INK, linestyle=(0, (3, 2)), linewidth=0.9, label="chance")
    _legend(figure, [*_bar_keys(found, looks), chance])
    _finish(figure, f"Error bars: {interval_note(found)}.", found)
    return figure


@_in_house_style
def learning_curves(records: Records, curves: Curves, x: str) -> Figure | None:
    """Validation accuracy against training 'episodes' or training 'seconds'.

    One seed: its 95 % interval as a band. Several: a thin line each, and their mean.
    """
    rows = labelled(records)
    drawn = [row for row in done(rows) if not curves.get(row["cell"], pd.DataFrame()).empty]
    # Seconds of different machines do not compare.
    found = comparisons(drawn, ACCURACY if x == "episodes" else BOTH)
    if not found:
        return None
    looks = styles(rows, found)
    panels = [(c, setting) for c in found for setting in c.settings]
    figure, axes = _panels(len(panels), 2, 7.2 if len(panels) > 1 else 4.8, 2.5)
    for ax, (comparison, setting) in zip(axes, panels, strict=True):
        for label in comparison.labels:
            seeds = [curves[row["cell"]] for row in comparison.at(label, setting)]
            if seeds:
                _curve(ax, seeds, x, label, looks[label])
        ax.set_xlim(left=0)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.set_xlabel("Training episodes" if x == "episodes" else "Training time (s)")
        ax.set_ylabel("Validation accuracy (%)")
        _percent_ticks(ax)
        ax.grid()
        ax.set_title(_panel_title(comparison, setting))
    _legend(figure, [Line2D([], [], label=each, **looks[each].line()) for each in _shown(found)])
    counts = {len(c.at(label, setting)) for c, setting in panels for label in c.labels}
    notes = ["Bands: 95 % interval over the validation episodes."] if 1 in counts else []
    notes += ["Thin lines: single seeds; thick: their mean."] if max(counts) > 1 else []
    notes += [_machine(found)] if x == "seconds" else []
    _finish(figure, " ".join(notes), found)
    return figure


@_in_house_style
def throughput(records: Records) -> Figure | None:
    """Tasks per second of training, adapting and inferring as bars on a log scale."""
    rows = labelled(records)
    found = comparisons((row for row in done(rows) if row.get("throughput")), THROUGHPUT)
    if not found:
        return None
    looks = styles(rows, found)
    panels = [(c, setting) for c in found for setting in c.settings]
    figure, axes = _panels(len(panels), 2, 7.2 if len(panels) > 1 else 4.8, 2.4)
    rates = [
        value
        for c, setting in panels
        for label in c.labels
        for phase in PHASES
        if (value := rate(c.at(label, setting), phase))
    ]
    # One scale for all panels, from a decade below the slowest.
    bottom, top = 10 ** math.floor(math.log10(min(rates)) - 0.3), max(rates)
    for ax, (comparison, setting) in zip(axes, panels, strict=True):
        pitch = _group_pitch(len(comparison.labels))
        upright = pitch * (3.0 if len(panels) > 1 else 4.0) * 72 / len(PHASES) < 24
        for x, label, phase in _bar_places(ax, comparison.labels, PHASES, pitch):
            value = rate(comparison.at(label, setting), phase)
            if value:
                ax.bar(x, value - bottom, 0.86 * pitch, bottom, linewidth=0.8, **looks[label].bar())
                _value(ax, x, value, EngFormatter(sep="")(float(f"{value:.3g}")), upright)
        ax.set_yscale("log")
        ax.set_ylim(bottom, top * (top / bottom) ** (0.25 if upright else 0.12))
        _log_ticks(ax.yaxis, bottom, top)
        ax.set_ylabel("Tasks per second")
        ax.grid(axis="y")
        ax.set_title(_panel_title(comparison, setting))
    _legend(figure, _bar_keys(found, looks))
    _finish(figure, f"Log scale. {_machine(found)}", found)
    return figure


@_in_house_style
def throughput_meta_batch(records: Records) -> Figure | None:
    """Training speed against the tasks of a meta-batch, where a learner was timed at several."""
    panels = saturation(records)
    if not panels:
        return None
    found = [comparison for comparison, _, _ in panels]
    looks = styles((row for comparison in found for row in comparison.rows), found)
    figure, axes = _panels(len(panels), 2, 7.2 if len(panels) > 1 else 4.8, 2.5)
    for ax, (comparison, setting, lines) in zip(axes, panels, strict=True):
        for label, line in lines.items():
            ax.plot(list(line), list(line.values()), **looks[label].line())
        sizes = {size for line in lines.values() for size in line}
        values = [value for line in lines.values() for value in line.values()]
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted(sizes), [str(size) for size in sorted(sizes)])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_yscale("log")
        ax.margins(y=0.15)
        _log_ticks(ax.yaxis, min(values), max(values))
        ax.set_xlabel("Meta-batch (tasks)")
        ax.set_ylabel("Training, tasks per second")
        ax.grid()
        ax.set_title(_panel_title(comparison, setting))
    _legend(figure, [Line2D([], [], label=each, **looks[each].line()) for each in _shown(found)])
    _finish(figure, f"Log scales. {_machine(found)}", found)
    return figure


@_in_house_style
def accuracy_throughput(records: Records) -> Figure | None:
    """Test accuracy with its 95 % interval against the speed of training (log).

    The speed is in images, as training tasks differ in size between learners. Points are labelled;
    where that is too much text for a panel, a legend tells which is which.
    """
    rows = labelled(records)
    found = comparisons((row for row in done(rows) if rate([row], "train")), BOTH)
    if not found:
        return None
    looks = styles(rows, found)
    panels = [(c, setting) for c in found for setting in c.settings]
    figure, axes = _panels(len(panels), 2, 7.2 if len(panels) > 1 else 4.8, 2.9)
    placed = []
    for ax, (comparison, setting) in zip(axes, panels, strict=True):
        spots = {}
        for label in comparison.labels:
            seeds = comparison.at(label, setting)
            speed = rate(seeds, "train", "images_per_s")
            if speed:
                result = score(seeds)
                ax.errorbar(
                    speed,
                    result.mean,
                    result.half,
                    linestyle="none",
                    ecolor=looks[label].colour,
                    capsize=2,
                    elinewidth=1.0,
                    **looks[label].point(),
                )
                spots[label] = (speed, result)
        speeds = [speed for speed, _ in spots.values()]
        ax.set_xscale("log")
        ax.set_xlim(min(speeds) / 2.2, max(speeds) * 2.2)
        _log_ticks(ax.xaxis, min(speeds), max(speeds))
        ax.margins(y=0.2)
        _percent_ticks(ax)
        ax.set_xlabel("Training throughput (images per second, log scale)")
        ax.set_ylabel("Test accuracy (%)")
        ax.grid()
        ax.set_title(_panel_title(comparison, setting))
        placed.append((ax, spots))
    direct = max(len("".join(spots)) for _, spots in placed) <= MOST_TEXT
    if not direct:
        points = {each: looks[each].point() | {"linestyle": "none"} for each in _shown(found)}
        _legend(figure, [Line2D([], [], label=each, **point) for each, point in points.items()])
    note = f"Error bars: {interval_note(found)}. {_machine(found)}"
    _finish(figure, note, found)
    for ax, spots in placed if direct else ():
        _label_points(ax, [(speed, s.mean, s.half, text) for text, (speed, s) in spots.items()])
    return figure


def _panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes in at most `columns` columns; width and height in inches."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width, height * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def _shown(found: Iterable[Comparison]) -> list[str]:
    return learners(row for comparison in found for row in comparison.rows)


def _group_pitch(count: int) -> float:
    """The room of one bar where the room of a group is 1."""
    return min(0.25, 0.84 / count)


def _bar_places(
    ax: Axes, labels: Sequence[str], groups: Sequence[str], pitch: float
) -> list[tuple[float, str, str]]:
    """Set the group ticks and give (x, label, group) of each bar."""
    ax.set_xticks(range(len(groups)), [textwrap.fill(group, 20) for group in groups])
    ax.tick_params(axis="x", length=0)
    margin = 0.55 if len(groups) > 1 else 0.65
    ax.set_xlim(-margin, len(groups) - 1 + margin)
    return [
        (group + (i - (len(labels) - 1) / 2) * pitch, label, name)
        for group, name in enumerate(groups)
        for i, label in enumerate(labels)
    ]


def _value(ax: Axes, x: float, y: float, text: str, upright: bool, colour: str = INK) -> None:
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


def _curve(ax: Axes, seeds: Sequence[pd.DataFrame], x: str, label: str, look: Style) -> None:
    if len(seeds) == 1:
        curve = seeds[0]
        low, high = (curve["val_accuracy"] + sign * curve["val_ci95"] for sign in (-1, 1))
        ax.fill_between(curve[x], low, high, color=look.colour, alpha=0.2, linewidth=0)
    else:
        for seed in seeds:
            ax.plot(seed[x], seed["val_accuracy"], color=look.colour, alpha=0.45, linewidth=0.6)
        # The mean is over validations after the same number of episodes, which all seeds have.
        joined = pd.concat([seed.set_index("episodes", drop=False) for seed in seeds], axis=1)
        joined = joined.dropna()
        curve = pd.DataFrame(
            {name: joined[[name]].mean(axis=1) for name in ("episodes", "seconds", "val_accuracy")}
        )
    every = max(1, len(curve) // 6)
    ax.plot(curve[x], curve["val_accuracy"], label=label, markevery=every, **look.line())


def _bar_keys(found: Iterable[Comparison], looks: Mapping[str, Style]) -> list[Artist]:
    return [Patch(label=label, linewidth=0.8, **looks[label].bar()) for label in _shown(found)]


def _legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend above the panels, in as many columns as the width holds; the figure grows by it."""
    for handle in handles:
        handle.set_label(_wrap(str(handle.get_label()), 36))
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


def _finish(figure: Figure, text: str, found: Iterable[Comparison]) -> None:
    """Write a note under the panels, what the marks mean, and fix the layout."""
    if any(DAGGER in label for label in _shown(found)):
        text += f" {TRANSDUCTIVE_NOTE}"
    if text:
        lines = math.ceil(len(text) / (figure.get_figwidth() * 20))
        text = _wrap(text.strip(), len(text) // lines + 12)
        figure.supxlabel(text, fontsize=6.5, color=GREY)
    layout = figure.get_layout_engine()
    assert layout is not None
    layout.execute(figure)
    figure.set_layout_engine("none")


def _wrap(text: str, width: int) -> str:
    """Lines of text in which no dagger is cut off from its word."""
    return textwrap.fill(text.replace("† ", "†\u00a0").replace(" †", "\u00a0†"), width)


def _machine(found: Iterable[Comparison]) -> str:
    rows = [row for comparison in found for row in comparison.rows]
    facts = shared_facts(rows, ("device", "device_name", "threads"))
    return f"Measured with {facts}." if facts else ""


def _panel_title(comparison: Comparison, setting: str) -> str:
    return textwrap.fill(f"{comparison.title}, {setting}", 48)


def _percent_ticks(ax: Axes) -> None:
    """No tick outside 0 to 100, though a margin or an interval may reach there."""
    low, high = ax.get_ylim()
    ax.set_yticks([tick for tick in ax.get_yticks() if max(low, 0) <= tick <= min(high, 100)])


def _log_ticks(axis: Axis, low: float, high: float) -> None:
    """Plain numbers (100, 1k, 10k) at decades, and between them where there are few decades."""
    subs = (1.0, 2.0, 5.0) if high / low < 50 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _label_points(ax: Axes, points: Sequence[tuple[float, float, float, str]]) -> None:
    """Write (x, y, half-width, text) beside its point, where no mark or other text is.

    The layout of the figure must be final. A label that found no room nearby gets a thin line.
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
        text = _wrap(text, 30)
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
    """Offsets of a text of this half size from its point: near ones first, then ever farther.

    The first value says whether the point is so far off that the text needs a line to it.
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
    """A box of this size around (x, y), or as near to it as the frame allows."""
    left = min(max(x - size.width / 2, frame.x0), frame.x1 - size.width)
    bottom = min(max(y - size.height / 2, frame.y0), frame.y1 - size.height)
    return Bbox.from_bounds(left, bottom, size.width, size.height)
