"""Interactive figures of the page, drawn by plotly, with exact values on hover.

Each figure is data and layout in the format of plotly.js, in the colours of the other figures.
Names of learners and data sets are free text, which plotly would interpret as markup: `_plain`
escapes it.
"""

import math
import statistics
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.colors import to_hex

from bench.report.drawing import INK, OTHERS, Style, styles
from bench.report.leaderboard import Leaderboard
from bench.report.plots import Curves, curve_panels, mean_curve
from bench.report.rankings import matrix, ties, wrapped
from bench.report.rows import (
    ALL_FACTS,
    SCORE,
    THROUGHPUT,
    Comparison,
    Row,
    comparisons,
    done,
    is_timed,
    learners,
    metric_of,
    phase_throughput,
    saturation,
    score,
    with_labels,
)
from bench.report.shifts import Shifts, tested_on
from bench.report.shifts import transfer_settings as tried_elsewhere
from bench.report.tables import PHASES, number, p_text, train_time
from bench.report.trials import AXES, Trials, probed, spread, trials_of
from bench.tasks.base import Metric

# Plotly's names of the markers of `drawing`, and of its fills, dashes and hatches (by kind).
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "h": "hexagon",
}
FILLS = ("", "-open", "-open-dot", "-dot")
DASHES = ("solid", "dash", "dot", "dashdot", "longdashdot")
HATCHES = ("", "/", ".", "x", "-")

GRID = "rgba(128, 128, 128, 0.3)"  # visible on light and dark backgrounds
HEIGHT = 300
LABEL_WIDTH = 34
MANY = 8  # learners; more than that need a broad matrix
SCALE = [[i / 10, to_hex(matplotlib.colormaps["PuOr"](i / 10))] for i in range(11)]
COSTS: dict[str, Callable[[Sequence[Row]], float | None]] = {
    "Training time (s, log scale)": lambda rows: (
        statistics.fmean(row["train_seconds"] for row in rows)
        if all(is_timed(row) for row in rows)
        else None
    ),
    "Adapting to a task (ms, log scale)": lambda rows: adapting(rows),
}
Data = dict[str, Any]


@dataclass(frozen=True)
class Plot:
    """Data and layout of one figure, its height in pixels, and its setting, if any.

    A broad figure takes the whole width of the page; others are two in a row.
    """

    title: str
    data: list[Data]
    layout: Data
    height: int
    place: str = ""
    broad: bool = False


def ranking(boards: Iterable[Leaderboard]) -> list[Plot]:
    """Plot learners in the order of rank with both intervals, and bars that join ties."""
    boards = list(boards)
    found = [board.comparison for board in boards]
    looks = styles((row for comparison in found for row in comparison.rows), found)
    return [_ranking(board, looks) for board in boards]


def pairs(boards: Iterable[Leaderboard]) -> list[Plot]:
    """Plot the difference of each pair of learners as a matrix, coloured by how often each wins."""
    return [_matrix(board) for board in boards if board.pairs]


def scores(records: Iterable[Row]) -> list[Plot]:
    """Plot test scores with their intervals over all settings, where there are several."""
    rows = with_labels(records)
    compared = comparisons(done(rows), SCORE)
    looks = styles(rows, compared)
    found = []
    for comparison in compared:
        metric = comparison.metric
        if len(comparison.settings) > 1:
            data = []
            for label in comparison.labels:
                tested = {s: comparison.at(label, s) for s in comparison.settings}
                results = {s: score(seeds) for s, seeds in tested.items() if seeds}
                data.append(
                    {
                        "x": [_plain(setting, 14) for setting in results],
                        "y": [each.mean for each in results.values()],
                        "error_y": _bar([s.half for s in results.values()], looks[label]),
                        "hovertext": [
                            _hover(label, setting, metric.text(s.mean, s.half))
                            for setting, s in results.items()
                        ],
                        **_points(label, looks[label]),
                    }
                )
            for label in learners(comparison.floors):
                floors = [row for row in comparison.floors if row["label"] == label]
                data.append(
                    {
                        "x": [_plain(row["setting"], 14) for row in floors],
                        "y": [row["score"] for row in floors],
                        "error_y": {"array": [0.0] * len(floors), "visible": False},
                        "hovertext": [
                            _hover(f"{label}, a floor", row["setting"], metric.text(row["score"]))
                            for row in floors
                        ],
                        "name": _plain(f"{label}, a floor"),
                        "mode": "markers",
                        "marker": {"symbol": "line-ew-open", "size": 24, "color": "gray"},
                        "hoverinfo": "text",
                        "type": "scatter",
                    }
                )
            layout = _layout("", metric.axis(), len(data)) | {"scattermode": "group"}
            order = [_plain(setting, 14) for setting in comparison.settings]
            layout["xaxis"] |= {"type": "category", "categoryarray": order, "showgrid": False}
            if metric.scale == "log":
                layout["yaxis"] |= _log(y for each in data for y in each["y"])
            else:
                layout["yaxis"]["range"] = _range(data)
            found.append(Plot(comparison.title, data, layout, _height(data)))
    return found


def learning_curves(records: Iterable[Row], curves: Curves, x: str) -> list[Plot]:
    """Plot validation scores against training 'episodes' or 'seconds'."""
    records = list(records)
    panels = curve_panels(records, curves, x)
    looks = styles(with_labels(records), [comparison for comparison, _, _ in panels])
    found = []
    for comparison, setting, drawn in panels:
        data, metric = [], comparison.metric
        for label, seeds in drawn.items():
            look = looks[label]
            curve = seeds[0] if len(seeds) == 1 else mean_curve(seeds)
            if len(seeds) == 1:
                low, high = (curve["val_score"] + s * curve["val_ci95"] for s in (-1, 1))
                data.append(_band(label, look, list(curve[x]), list(low), list(high)))
            else:
                data += [_thin(label, look, list(s[x]), list(s["val_score"])) for s in seeds]
            texts = [
                _hover(
                    label,
                    metric.text(at["val_score"], at.get("val_ci95")),
                    f"{at['episodes']:,.0f} episodes, {at['seconds']:,.1f} s",
                )
                for at in curve.to_dict("records")
            ]
            data.append(_line(label, look, list(curve[x]), list(curve["val_score"]), texts))
        axis = "Training episodes" if x == "episodes" else "Training time (s)"
        layout = _layout(axis, metric.axis("Validation"), len(drawn))
        if metric.scale == "log":
            layout["yaxis"] |= _log(
                y for seeds in drawn.values() for s in seeds for y in s["val_score"]
            )
        layout["xaxis"]["rangemode"] = "tozero"
        found.append(_plot(comparison, setting, data, layout))
    return found


def cost(records: Iterable[Row]) -> list[Plot]:
    """Plot test scores against cost: training time, and time to adapt to a task."""
    rows = with_labels(records)
    compared = comparisons(done(rows), ALL_FACTS)
    looks = styles(rows, compared)
    found = []
    for comparison in compared:
        for setting in comparison.settings:
            for axis, cost_of in COSTS.items():
                points = {}
                for label in comparison.labels:
                    seeds = comparison.at(label, setting)
                    spent = cost_of(seeds) if seeds else None
                    if spent:
                        points[label] = (spent, score(seeds).mean)
                if points:
                    data = [_front(points, comparison.metric)] if len(points) > 1 else []
                    data += [
                        _cost_point(comparison.at(label, setting), label, spot, looks[label])
                        for label, spot in points.items()
                    ]
                    layout = _layout(axis, comparison.metric.axis(), len(points) + 1)
                    layout["xaxis"] |= _log(x for x, _ in points.values())
                    found.append(_plot(comparison, setting, data, layout))
    return found


def front(points: Mapping[str, tuple[float, float]], metric: Metric) -> list[str]:
    """Return the labels on the Pareto front of (cost, score), from cheap to expensive."""
    sign = 1 if metric.higher_is_better else -1
    best, kept = -math.inf, []
    for label in sorted(points, key=lambda each: (points[each][0], -sign * points[each][1])):
        if sign * points[label][1] > best:
            best = sign * points[label][1]
            kept.append(label)
    return kept


def adapting(rows: Sequence[Row]) -> float | None:
    """Return ms per task to adapt a batch of tasks, the mean over seeds; None if untimed."""
    speed = phase_throughput(rows, "adapt")
    return 1000 / speed if speed else None


def adaptation(records: Iterable[Row], trials: Trials) -> list[Plot]:
    """Plot test scores of the trained learners against inner steps, shots and ways."""
    panels = [(v, *panel) for v in AXES for panel in probed(records, trials, v)]
    compared = [comparison for _, comparison, _ in panels]
    looks = styles((row for comparison in compared for row in comparison.rows), compared)
    found = []
    for varied, comparison, setting in panels:
        data, values, metric = [], set(), comparison.metric
        for label in comparison.labels:
            if seeds := trials_of(comparison, label, setting, trials, varied):
                tried = spread(seeds)
                x, y = list(tried["value"]), list(tried["score"])
                texts = [
                    _hover(label, metric.text(mean), f"{metric.number(low)} to {metric.text(high)}")
                    for mean, low, high in zip(y, tried["low"], tried["high"], strict=True)
                ]
                data.append(_band(label, looks[label], x, list(tried["low"]), list(tried["high"])))
                data.append(_line(label, looks[label], x, y, texts))
                values |= set(x)
        layout = _layout(f"{AXES[varied]} (log scale)", metric.axis(), len(data) // 2)
        if metric.scale == "log":
            layout["yaxis"] |= _log(y for each in data for y in each["y"])
        ticks = sorted(values)
        layout["xaxis"] |= _log(ticks) | {"tickvals": ticks, "ticktext": [str(x) for x in ticks]}
        found.append(_plot(comparison, setting, data, layout, f"trained for {setting}"))
    return found


def shift(records: Iterable[Row], shifts: Shifts) -> list[Plot]:
    """Plot test scores on the learners' own data set and on others, as bars from zero."""
    panels = tried_elsewhere(records, shifts)
    compared = [comparison for comparison, _ in panels]
    looks = styles((row for comparison in compared for row in comparison.rows), compared)
    found = []
    for comparison, setting in panels:
        groups = tested_on(comparison, setting, shifts)
        data: list[Data] = []
        for label in comparison.labels:
            scores = {name: each[label] for name, each in groups.items() if label in each}
            if scores:
                data.append(
                    {
                        "type": "bar",
                        "name": _plain(label),
                        "x": [_plain(name, 14) for name in scores],
                        "y": [each.mean for each in scores.values()],
                        "error_y": _bar([each.half for each in scores.values()], looks[label])
                        | {"color": "gray"},  # visible on the bar and above it
                        "hoverinfo": "text",
                        "hovertext": [
                            _hover(label, name, comparison.metric.text(each.mean, each.half))
                            for name, each in scores.items()
                        ],
                        "marker": _fill(looks[label]),
                    }
                )
        layout = _layout("", comparison.metric.axis(), len(data)) | {"barmode": "group"}
        layout["xaxis"]["showgrid"] = False
        found.append(_plot(comparison, setting, data, layout, f"trained for {setting}"))
    return found


def throughput(records: Iterable[Row]) -> list[Plot]:
    """Plot tasks per second of training, adaptation and inference as bars on a log scale."""
    rows = with_labels(records)
    compared = comparisons((row for row in done(rows) if row.get("throughput")), THROUGHPUT)
    looks = styles(rows, compared)
    found = []
    for comparison in compared:
        for setting in comparison.settings:
            data: list[Data] = []
            for label in comparison.labels:
                seeds = comparison.at(label, setting)
                rates = {p: speed for p in PHASES if (speed := phase_throughput(seeds, p))}
                if rates:
                    texts = [f"{number(speed)} tasks/s" for speed in rates.values()]
                    data.append(
                        {
                            "type": "bar",
                            "name": _plain(label),
                            "x": list(rates),
                            "y": list(rates.values()),
                            "hoverinfo": "text",
                            "hovertext": [
                                _hover(label, *e) for e in zip(rates, texts, strict=True)
                            ],
                            "marker": _fill(looks[label]),
                        }
                    )
            layout = _layout("", "Tasks per second (log scale)", len(data)) | {"barmode": "group"}
            layout["yaxis"] |= _log(speed for each in data for speed in each["y"])
            layout["xaxis"]["showgrid"] = False
            found.append(_plot(comparison, setting, data, layout))
    return found


def throughput_meta_batch(records: Iterable[Row]) -> list[Plot]:
    """Plot training speed against meta-batch size, where a learner was timed at several."""
    panels = saturation(records)
    compared = [comparison for comparison, _, _ in panels]
    looks = styles((row for comparison in compared for row in comparison.rows), compared)
    found = []
    for comparison, setting, lines in panels:
        data = []
        for label, line in lines.items():
            texts = [
                _hover(label, f"meta-batch {size}", f"{number(speed)} tasks/s")
                for size, speed in line.items()
            ]
            data.append(_line(label, looks[label], list(line), list(line.values()), texts))
        layout = _layout("Meta-batch (log scale)", "Training, tasks/s (log scale)", len(data))
        sizes = sorted({size for line in lines.values() for size in line})
        layout["xaxis"] |= _log(sizes) | {"tickvals": sizes, "ticktext": [str(s) for s in sizes]}
        layout["yaxis"] |= _log(speed for line in lines.values() for speed in line.values())
        found.append(_plot(comparison, setting, data, layout))
    return found


def _ranking(board: Leaderboard, looks: Mapping[str, Style]) -> Plot:
    data: list[Data] = []
    metric = board.comparison.metric
    for place, entry in enumerate(board.standings):
        look = looks[entry.label]
        lines = [
            f"rank {entry.rank}",
            metric.text(entry.score),
        ]
        for half, what in (
            (entry.half_episodes, "episodes"),
            (entry.half_seeds_and_episodes, "seeds and episodes"),
            (entry.half_classes, "classes as well"),
        ):
            lines += [] if half is None else [f"± {half:.3g} {metric.unit} ({what})"]
        point = {
            **_points(entry.label, look),
            "x": [entry.score],
            "y": [place],
            "showlegend": False,
            "hovertext": [_hover(entry.label, *lines)],
        }
        if entry.half_classes is not None:
            thin = {**_bar([entry.half_classes], look), "thickness": 1}
            data.append({**point, "error_x": thin, "hoverinfo": "skip"})
        thick = {**_bar([entry.half], look), "thickness": 5, "width": 0}
        data.append({**point, "error_x": thick})
    names = [f"{_plain(wrapped(e.label))}  <b>{e.short_rank}</b>" for e in board.standings]
    layout = _layout(metric.axis(), "", 0)
    if metric.scale == "log":
        layout["xaxis"] |= _log(entry.score for entry in [*board.standings, *board.floors])
    layout["yaxis"] |= {
        "tickvals": list(range(len(names))),
        "ticktext": names,
        "range": [len(names) - 0.5, -0.5],
        "showgrid": False,
    }
    layout["shapes"] = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 1.02 + 0.03 * column,
            "x1": 1.02 + 0.03 * column,
            "y0": first - 0.2,
            "y1": last + 0.2,
            "line": {"color": "gray", "width": 4},
        }
        for column, (first, last) in enumerate(ties(board))
    ]
    layout["margin"]["r"] = 24 + 10 * len(layout["shapes"])
    layout["shapes"] += [
        {
            "type": "line",
            "yref": "paper",
            "x0": entry.score,
            "x1": entry.score,
            "y0": 0,
            "y1": 1,
            "line": {"color": "gray", "width": 1.5, "dash": "dot"},
        }
        for entry in board.floors
    ]
    return Plot(board.title, data, layout, 120 + 48 * len(names), board.place)


def _matrix(board: Leaderboard) -> Plot:
    order, wins, texts = matrix(board)
    hover = [[""] * len(order) for _ in order]
    for pair in board.pairs:
        a, b = order.index(pair.first), order.index(pair.second)
        for row, column, sign, share in (
            (a, b, 1, pair.first_better),
            (b, a, -1, 1 - pair.first_better),
        ):
            hover[row][column] = _hover(
                f"{order[row]} against {order[column]}",
                f"{sign * pair.difference:+.2f} ± {pair.half:.2f} points ({pair.of})",
                f"p {p_text(pair.p_corrected)}{'' if pair.significant else ': a tie'}",
                f"one training beats one of the other on {100 * share:.0f} % of episodes",
            )
    names = [_plain(wrapped(label)) for label in order]
    shares: list[list[float | None]] = [
        [None if math.isnan(share) else share for share in line] for line in wins.tolist()
    ]
    heat: Data = {
        "type": "heatmap",
        "z": shares,
        "text": texts,
        "texttemplate": "%{text}",
        "hovertext": hover,
        "hoverinfo": "text",
        "hoverongaps": False,
        "zmin": 0,
        "zmax": 1,
        "colorscale": SCALE,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }
    layout = _layout("", "", 0)
    ticks = {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False}
    layout["xaxis"] |= ticks | {"tickangle": -45}
    layout["yaxis"] |= ticks | {"autorange": "reversed"}
    broad = len(names) > MANY
    height = 160 + (36 if broad else 48) * len(names)
    return Plot(board.title, [heat], layout, height, board.place, broad)


def _front(points: Mapping[str, tuple[float, float]], metric: Metric) -> Data:
    kept = front(points, metric)
    dearest = max(spent for spent, _ in points.values())
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best for the cost",
        "x": [*(points[label][0] for label in kept), dearest],
        "y": [*(points[label][1] for label in kept), points[kept[-1]][1]],
        "line": {"color": "gray", "width": 1.5, "dash": "dot", "shape": "hv"},
        "hoverinfo": "skip",
    }


def _cost_point(rows: Sequence[Row], label: str, spot: tuple[float, float], look: Style) -> Data:
    result, adapt = score(rows), adapting(rows)
    return {
        **_points(label, look),
        "x": [spot[0]],
        "y": [spot[1]],
        "error_y": _bar([result.half], look),
        "hovertext": [
            _hover(
                label,
                metric_of(rows[0]).text(result.mean, result.half),
                f"training {train_time(rows)}",
                f"adapting {number(adapt)} ms per task",
            )
        ],
    }


def _plot(
    comparison: Comparison, setting: str, data: list[Data], layout: Data, said: str = ""
) -> Plot:
    title = f"{comparison.title}, {said or setting}"
    return Plot(title, data, layout, _height(data), comparison.place(setting))


def _height(data: Sequence[Data]) -> int:
    """Return the height of a panel with its legend, which on a phone has two entries per line."""
    result: int = HEIGHT + 9 * sum(each.get("showlegend", True) for each in data)
    return result


def _layout(x: str, y: str, entries: int) -> Data:
    """Return the layout of a panel with axis titles, and a legend if there are entries."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "gray"},
        "margin": {"l": 8, "r": 12, "t": 30, "b": 8},  # top: room for the buttons
        "xaxis": _axis(x),
        "yaxis": _axis(y),
        "showlegend": entries > 0,
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "gray", "activecolor": INK},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": INK, "bordercolor": INK, "font": {"color": "white"}},
        "dragmode": False,  # so that touch scrolls the page
    }


def _axis(title: str) -> Data:
    return {
        "title": {"text": title},
        "automargin": True,
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
    }


def _range(data: Sequence[Data]) -> list[float]:
    """Return the y range from the lowest to the highest error bar end, with a margin.

    Plotly's default would start at zero.
    """
    ends = [
        y + sign * half
        for each in data
        for y, half in zip(each["y"], each["error_y"]["array"], strict=True)
        for sign in (-1, 1)
    ]
    room = 0.05 * (max(ends) - min(ends))
    return [min(ends) - room, max(ends) + room]


def _log(values: Iterable[float]) -> Data:
    """Return a log axis with room around the values.

    Ticks are at decades, or at 1, 2 and 5 if there are few decades.
    """
    logs = [math.log10(value) for value in values if value > 0]
    room = 0.08 * (max(logs) - min(logs)) + 0.08
    low, high = min(logs) - room, max(logs) + room
    decades = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 1.7 else (1,)
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    texts = [f"{tick:,g}" for tick in ticks]
    return {"type": "log", "range": [low, high], "tickvals": ticks, "ticktext": texts}


def _points(label: str, look: Style) -> Data:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _plain(label),
        "hoverinfo": "text",
        "marker": _marker(look) | {"size": 10},
    }


def _line(
    label: str, look: Style, x: Sequence[float], y: Sequence[float], texts: Sequence[str]
) -> Data:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": _plain(label),
        "legendgroup": label,
        "x": list(x),
        "y": list(y),
        "hoverinfo": "text",
        "hovertext": list(texts),
        "marker": _marker(look) | {"size": 7},
        "line": {"color": look.colour, "width": 2, "dash": DASHES[look.kind % len(DASHES)]},
    }


def _thin(label: str, look: Style, x: Sequence[float], y: Sequence[float]) -> Data:
    """Return a thin line: one of several seeds."""
    return {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": label,
        "showlegend": False,
        "x": list(x),
        "y": list(y),
        "hoverinfo": "skip",
        "opacity": 0.5,
        "line": {"color": look.colour, "width": 1},
    }


def _band(
    label: str, look: Style, x: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> Data:
    return {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": label,
        "showlegend": False,
        "x": [*x, *reversed(x)],
        "y": [*low, *reversed(high)],
        "fill": "toself",
        "fillcolor": look.colour,
        "opacity": 0.2,
        "line": {"width": 0, "color": look.colour},
        "hoverinfo": "skip",
    }


def _marker(look: Style) -> Data:
    edge = INK if look.colour == OTHERS[3][0] else look.colour
    symbol = SYMBOLS[look.marker] + FILLS[look.kind % len(FILLS)]
    return {"color": look.colour, "symbol": symbol, "line": {"color": edge, "width": 1.5}}


def _fill(look: Style) -> Data:
    """Return the fill of a bar: solid for the first learner of a colour, hatched for others."""
    filled: Data = {"color": look.colour, "line": {"color": look.colour, "width": 1}}
    if look.kind == 0:
        return filled
    shape = HATCHES[look.kind % len(HATCHES)] or "|"
    return filled | {"pattern": {"shape": shape, "fillmode": "replace", "size": 6}}


def _bar(halves: Sequence[float], look: Style) -> Data:
    return {
        "type": "data",
        "array": list(halves),
        "color": look.colour,
        "thickness": 1.5,
        "width": 4,
    }


def _hover(label: str, *lines: str) -> str:
    return "<br>".join([f"<b>{_plain(label)}</b>", *(_plain(line) for line in lines)])


def _plain(text: str, width: int = LABEL_WIDTH) -> str:
    """Escape a text and wrap it to `width` characters; plotly would interpret some tags."""
    lines = [piece for line in text.split("\n") for piece in textwrap.wrap(line, width)]
    return "<br>".join(escape(line, quote=False) for line in lines)
