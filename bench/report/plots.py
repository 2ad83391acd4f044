"""Figures of the stored rows.

Every function takes the records (and the learning curves) and returns a Figure, or None if there is
nothing to show. Global matplotlib state is neither read nor changed beyond a call.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from bench.report.drawing import (
    CHANCE,
    FLOOR,
    GREY,
    INK,
    MOST_TEXT,
    Style,
    bar_axis,
    finish,
    house_style,
    label_points,
    labels_of,
    legend,
    log_ticks,
    machine,
    new_figure,
    panel_title,
    score_axis,
    short,
    styles,
    write_value,
)
from bench.report.rows import (
    ALL_FACTS,
    SCORE,
    THROUGHPUT,
    Comparison,
    Row,
    by_metric,
    comparisons,
    done,
    interval_note,
    is_timed,
    learners,
    phase_throughput,
    saturation,
    score,
    with_labels,
)
from bench.report.tables import PHASES
from bench.tasks.base import Metric

Records = Iterable[Row]
Curves = Mapping[str, pd.DataFrame]
CurvePanel = tuple[Comparison, str, dict[str, list[pd.DataFrame]]]
"""A comparison, one of its settings, and the learning curves of all seeds by label."""


def figures(records: Records, curves: Curves) -> dict[str, Figure | None]:
    """Return all figures by name, None if nothing to show; `curves` maps cells to histories."""
    records = list(records)
    return {
        **{metric.name: scores(of, metric) for metric, of in by_metric(records).items()},
        "learning_curves_episodes": learning_curves(records, curves, "episodes"),
        "learning_curves_seconds": learning_curves(records, curves, "seconds"),
        "throughput": throughput(records),
        "throughput_meta_batch": throughput_meta_batch(records),
        "score_throughput": score_throughput(records),
    }


@house_style
def scores(records: Records, metric: Metric) -> Figure | None:
    """Draw test scores as bars with 95 % intervals, grouped by setting; errors on a log scale."""
    rows = with_labels(records)
    if not done(rows):
        return None
    found = comparisons(rows, SCORE)
    looks = styles(rows, found)
    bars = max(len(c.labels) * len(c.settings) for c in found)
    width = 4.8 if bars <= 6 else max(7.2, 0.2 * bars)
    figure, axes = new_figure(len(found), 1, width, 2.6)
    for ax, comparison in zip(axes, found, strict=True):
        pitch = group_pitch(len(comparison.labels))
        points = (width - 0.8) * 72 * pitch / max(1.3, len(comparison.settings))
        upright = points < 24
        tops = []
        for x, label, setting in bar_places(ax, comparison.labels, comparison.settings, pitch):
            seeds = comparison.at(label, setting)
            if seeds:
                result = score(seeds)
                ax.bar(x, result.mean, 0.86 * pitch, linewidth=0.8, **looks[label].bar())
                ax.errorbar(x, result.mean, result.half, color=INK, capsize=1.5, linewidth=0.7)
                top = result.mean + result.half
                write_value(ax, x, top, metric.number(result.mean), upright)
                tops += [result.mean, top]
            elif comparison.at(label, setting, "failed"):
                write_value(ax, x, 0, "failed", True, GREY)
        for group, setting in enumerate(comparison.settings):
            ways = next(row["ways"] for row in comparison.rows if row["setting"] == setting)
            ends = group - 0.47, group + 0.47
            if ways:
                ax.hlines(100 / ways, *ends, INK, linestyles=CHANCE, lw=0.9)
            for row in comparison.floors_at(setting):
                ax.hlines(row["score"], *ends, INK, linestyles=FLOOR, lw=1.2)
        bar_axis(ax, metric, tops, upright)
        ax.set_title(textwrap.fill(comparison.title, int(width * 14)))
    keys = [*_bar_keys(found, looks), *floor_keys(found)]
    if any(row["ways"] for row in rows):
        keys.append(Line2D([], [], color=INK, linestyle=CHANCE, linewidth=0.9, label="chance"))
    legend(figure, keys)
    finish(figure, f"Error bars: {interval_note(found)}.", found)
    return figure


@house_style
def learning_curves(records: Records, curves: Curves, x: str) -> Figure | None:
    """Draw validation scores against training 'episodes' or training 'seconds'.

    One seed: its 95 % interval as a band. Several: a thin line each, and their mean.
    """
    records = list(records)
    panels = curve_panels(records, curves, x)
    if not panels:
        return None
    found = [comparison for comparison, _, _ in panels]
    looks = styles(with_labels(records), found)
    figure, axes = new_figure(len(panels), 2, 7.2 if len(panels) > 1 else 4.8, 2.5)
    for ax, (comparison, setting, drawn) in zip(axes, panels, strict=True):
        for label, seeds in drawn.items():
            _curve(ax, seeds, x, label, looks[label])
        ax.set_xlim(left=0)
        ax.xaxis.set_major_formatter(short)
        ax.set_xlabel("Training episodes" if x == "episodes" else "Training time (s)")
        score_axis(ax, comparison.metric, "Validation")
        ax.grid()
        ax.set_title(panel_title(comparison, setting))
    legend(figure, [Line2D([], [], label=each, **looks[each].line()) for each in labels_of(found)])
    notes = [curves_note(panels), machine(found) if x == "seconds" else ""]
    finish(figure, " ".join(filter(None, notes)), found)
    return figure


def curve_panels(records: Records, curves: Curves, x: str) -> list[CurvePanel]:
    """Return the learning curves to draw by 'episodes' or 'seconds', setting by setting."""
    drawn = [
        row
        for row in done(with_labels(records))
        if not curves.get(row["cell"], pd.DataFrame()).empty
    ]
    if x == "seconds":
        drawn = [row for row in drawn if is_timed(row)]
    panels = []
    # Times of different machines are not comparable.
    for comparison in comparisons(drawn, SCORE if x == "episodes" else ALL_FACTS):
        for setting in comparison.settings:
            seeds = {
                label: [curves[row["cell"]] for row in comparison.at(label, setting)]
                for label in comparison.labels
            }
            panels.append((comparison, setting, {label: s for label, s in seeds.items() if s}))
    return panels


def curves_note(panels: Iterable[CurvePanel]) -> str:
    """Return a note on what bands and thin lines mean."""
    counts = {len(seeds) for _, _, drawn in panels for seeds in drawn.values()}
    notes = ["Bands: 95 % interval over the validation episodes."] if 1 in counts else []
    notes += ["Thin lines: single seeds; thick: their mean."] if max(counts, default=0) > 1 else []
    return " ".join(notes)


def mean_curve(seeds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean curve over the validations (by episodes) that all seeds have."""
    joined = pd.concat([seed.set_index("episodes", drop=False) for seed in seeds], axis=1).dropna()
    names = ("episodes", "seconds", "val_score")
    return pd.DataFrame({name: joined[[name]].mean(axis=1) for name in names})


@house_style
def throughput(records: Records) -> Figure | None:
    """Draw tasks per second of training, adaptation and inference as bars on a log scale."""
    rows = with_labels(records)
    found = comparisons((row for row in done(rows) if row.get("throughput")), THROUGHPUT)
    if not found:
        return None
    looks = styles(rows, found)
    panels = [(c, setting) for c in found for setting in c.settings]
    figure, axes = new_figure(len(panels), 2, 7.2 if len(panels) > 1 else 4.8, 2.4)
    rates = [
        value
        for c, setting in panels
        for label in c.labels
        for phase in PHASES
        if (value := phase_throughput(c.at(label, setting), phase))
    ]
    # One scale for all panels, from a decade below the slowest.
    bottom, top = 10 ** math.floor(math.log10(min(rates)) - 0.3), max(rates)
    for ax, (comparison, setting) in zip(axes, panels, strict=True):
        pitch = group_pitch(len(comparison.labels))
        upright = pitch * (3.0 if len(panels) > 1 else 4.0) * 72 / len(PHASES) < 24
        for x, label, phase in bar_places(ax, comparison.labels, PHASES, pitch):
            value = phase_throughput(comparison.at(label, setting), phase)
            if value:
                ax.bar(x, value - bottom, 0.86 * pitch, bottom, linewidth=0.8, **looks[label].bar())
                write_value(ax, x, value, short(float(f"{value:.3g}")), upright)
        ax.set_yscale("log")
        ax.set_ylim(bottom, top * (top / bottom) ** (0.25 if upright else 0.12))
        log_ticks(ax.yaxis, bottom, top)
        ax.set_ylabel("Tasks per second")
        ax.grid(axis="y")
        ax.set_title(panel_title(comparison, setting))
    legend(figure, _bar_keys(found, looks))
    finish(figure, f"Log scale. {machine(found)}", found)
    return figure


@house_style
def throughput_meta_batch(records: Records) -> Figure | None:
    """Draw training speed against meta-batch size, where a learner was timed at several."""
    panels = saturation(records)
    if not panels:
        return None
    found = [comparison for comparison, _, _ in panels]
    looks = styles((row for comparison in found for row in comparison.rows), found)
    figure, axes = new_figure(len(panels), 2, 7.2 if len(panels) > 1 else 4.8, 2.5)
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
        log_ticks(ax.yaxis, min(values), max(values))
        ax.set_xlabel("Meta-batch (tasks)")
        ax.set_ylabel("Training, tasks per second")
        ax.grid()
        ax.set_title(panel_title(comparison, setting))
    legend(figure, [Line2D([], [], label=each, **looks[each].line()) for each in labels_of(found)])
    finish(figure, f"Log scales. {machine(found)}", found)
    return figure


@house_style
def score_throughput(records: Records) -> Figure | None:
    """Draw test scores with their 95 % intervals against training speed (log scale).

    Speed is in examples per second, as training tasks differ in size between learners. Points are
    labelled; if that is too much text for a panel, there is a legend instead.
    """
    rows = with_labels(records)
    found = comparisons((row for row in done(rows) if phase_throughput([row], "train")), ALL_FACTS)
    if not found:
        return None
    looks = styles(rows, found)
    panels = [(c, setting) for c in found for setting in c.settings]
    figure, axes = new_figure(len(panels), 2, 7.2 if len(panels) > 1 else 4.8, 2.9)
    placed = []
    for ax, (comparison, setting) in zip(axes, panels, strict=True):
        spots = {}
        for label in comparison.labels:
            seeds = comparison.at(label, setting)
            speed = phase_throughput(seeds, "train", "examples_per_s")
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
        log_ticks(ax.xaxis, min(speeds), max(speeds))
        ax.margins(y=0.2)
        score_axis(ax, comparison.metric)
        ax.set_xlabel("Training throughput (examples per second, log scale)")
        ax.grid()
        ax.set_title(panel_title(comparison, setting))
        placed.append((ax, spots))
    direct = max(len("".join(spots)) for _, spots in placed) <= MOST_TEXT
    if not direct:
        points = {each: looks[each].point() | {"linestyle": "none"} for each in labels_of(found)}
        legend(figure, [Line2D([], [], label=each, **point) for each, point in points.items()])
    note = f"Error bars: {interval_note(found)}. {machine(found)}"
    finish(figure, note, found)
    for ax, spots in placed if direct else ():
        label_points(ax, [(speed, s.mean, s.half, text) for text, (speed, s) in spots.items()])
    return figure


def group_pitch(count: int) -> float:
    """Return the width of one bar, where the distance between groups is 1."""
    return min(0.25, 0.84 / count)


def bar_places(
    ax: Axes, labels: Sequence[str], groups: Sequence[str], pitch: float
) -> list[tuple[float, str, str]]:
    """Set the group ticks and return (x, label, group) of each bar."""
    ax.set_xticks(range(len(groups)), [textwrap.fill(group, 20) for group in groups])
    ax.tick_params(axis="x", length=0)
    margin = 0.55 if len(groups) > 1 else 0.65
    ax.set_xlim(-margin, len(groups) - 1 + margin)
    return [
        (group + (i - (len(labels) - 1) / 2) * pitch, label, name)
        for group, name in enumerate(groups)
        for i, label in enumerate(labels)
    ]


def _curve(ax: Axes, seeds: Sequence[pd.DataFrame], x: str, label: str, look: Style) -> None:
    if len(seeds) == 1:
        curve = seeds[0]
        low, high = (curve["val_score"] + sign * curve["val_ci95"] for sign in (-1, 1))
        ax.fill_between(curve[x], low, high, color=look.colour, alpha=0.2, linewidth=0)
    else:
        for seed in seeds:
            ax.plot(seed[x], seed["val_score"], color=look.colour, alpha=0.45, linewidth=0.6)
        curve = mean_curve(seeds)
    every = max(1, len(curve) // 6)
    ax.plot(curve[x], curve["val_score"], label=label, markevery=every, **look.line())


def floor_keys(found: Iterable[Comparison]) -> list[Artist]:
    """Return the legend entry for floors, if there are any."""
    names = learners(row for comparison in found for row in comparison.floors)
    label = f"floor: {', '.join(names)}"
    return [Line2D([], [], color=INK, linestyle=FLOOR, linewidth=1.2, label=label)] if names else []


def _bar_keys(found: Iterable[Comparison], looks: Mapping[str, Style]) -> list[Artist]:
    return [Patch(label=label, linewidth=0.8, **looks[label].bar()) for label in labels_of(found)]
