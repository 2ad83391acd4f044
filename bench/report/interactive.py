"""Figures drawn by plotly for the page, with exact values on hover.

A panel becomes data and layout in the format of plotly.js. Names of learners and data sets are free
text, which plotly would interpret as markup: `_plain` escapes it.
"""

import math
import textwrap
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from bench.report.figures.description import Axis, Bars, Figure, Line, Matrix, Panel, Points, Series
from bench.report.figures.styles import GREY, INK, Style

# Plotly's names of the markers of styles, and of its fills, dashes and hatches (by kind).
NAMES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "hexagon")
SYMBOLS = dict(zip("os^DvPXh", NAMES, strict=True))
FILLS = ("", "-open", "-open-dot", "-dot")
DASHES = ("solid", "dash", "dot", "dashdot", "longdashdot")
HATCHES = ("", "/", ".", "x", "-")

GRID = "rgba(128, 128, 128, 0.3)"  # visible on light and dark backgrounds
LABEL_WIDTH = 34
SCALE = [[i / 10, to_hex(matplotlib.colormaps["PuOr"](i / 10))] for i in range(11)]
Data = dict[str, Any]


def height(figure: Figure, panel: Panel) -> int:
    """Return the height in pixels of a panel with its legend, two entries a line on a phone."""
    return round(120 * figure.height) + 9 * figure.legend * len(panel.legend)


def draw(figure: Figure, panel: Panel) -> dict[str, Any]:
    """Return the data and the layout of a panel."""
    data = [trace for series in panel.series for trace in _traces(series, panel)]
    if panel.matrix:
        data.append(_matrix(panel.matrix))
    layout: Data = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "gray"},
        "margin": {"l": 8, "r": 12, "t": 30, "b": 8},  # top: room for the buttons
        "xaxis": _axis(panel.x) | ({"tickangle": -45} if panel.matrix else {}),
        "yaxis": _axis(panel.y),
        "barmode": "overlay",
        "showlegend": figure.legend,
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "gray", "activecolor": INK},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": INK, "bordercolor": INK, "font": {"color": "white"}},
        "dragmode": False,  # so that touch scrolls the page
        "shapes": [
            {
                "type": "line",
                "xref": "paper",
                **dict.fromkeys(("x0", "x1"), 1.02 + 0.03 * column),
                "y0": first - 0.2,
                "y1": last + 0.2,
                "line": {"color": "gray", "width": 4},
            }
            for column, (first, last) in enumerate(panel.brackets)
        ],
    }
    if panel.brackets:
        layout["margin"]["r"] = 24 + 10 * len(panel.brackets)
    return {"data": data, "layout": layout}


def _axis(axis: Axis) -> Data:
    found: Data = {
        "title": {"text": axis.label},
        "type": "log" if axis.log else "linear",
        "automargin": True,
        "showgrid": axis.grid,
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
    }
    if axis.low is not None and axis.high is not None:
        ends = (axis.low, axis.high)
        found["range"] = [math.log10(end) for end in ends] if axis.log else list(ends)
    elif axis.low == 0:
        found["rangemode"] = "tozero"
    if axis.ticks:
        texts = [_plain(text) for text in axis.ticks.values()]
        found |= {"tickvals": list(axis.ticks), "ticktext": texts}
    return found


def _traces(series: Series, panel: Panel) -> list[Data]:
    """Return what draws a series; one of several with a label stands in the legend."""
    look = series.style
    trace: Data = {
        "type": "bar" if isinstance(series, Bars) else "scatter",
        "name": _plain(series.label),
        "legendgroup": series.label,
        "showlegend": panel.legend[series.label] is series,
        "x": list(series.x),
        "y": list(series.y),
        "opacity": look.opacity,
        "hoverinfo": "skip",
    }
    if series.hover:
        trace |= {"hoverinfo": "text", "hovertext": [_hover(text) for text in series.hover]}
    if isinstance(series, Line):
        dash = DASHES[look.kind % len(DASHES)]
        trace["mode"] = "lines+markers" if look.marker else "lines"
        trace["line"] = {"color": _colour(look), "width": 1.6 * look.width, "dash": dash}
        trace["marker"] = _marker(look, 7)
        if not series.ends:
            return [trace]
        low, high = series.ends
        band = trace | {
            "mode": "lines",
            "showlegend": False,
            "x": [*series.x, *reversed(series.x)],
            "y": [*low, *reversed(high)],
            "fill": "toself",
            "fillcolor": look.colour,
            "opacity": 0.2,
            "line": {"width": 0, "color": look.colour},
            "hoverinfo": "skip",
        }
        return [band, trace]
    if isinstance(series, Points):
        trace |= {"mode": "markers", "marker": _marker(look, 10)}
    if isinstance(series, Bars):
        trace |= {"width": series.width, "marker": _fill(look)}
    if series.ends:
        below, above = np.abs(np.array(series.ends) - series.y).tolist()
        trace["error_y"] = {
            "type": "data",
            "array": above,
            "arrayminus": below,
            "color": "gray" if isinstance(series, Bars) else look.colour,
            "thickness": 1.5,
            "width": 4,
        }
    return [trace]


def _matrix(matrix: Matrix) -> Data:
    return {
        "type": "heatmap",
        "z": [[None if math.isnan(z) else z for z in line] for line in matrix.values],
        "text": matrix.texts,
        "texttemplate": "%{text}",
        "hovertext": [[_hover(text) for text in line] for line in matrix.hover],
        "hoverinfo": "text",
        "hoverongaps": False,
        "zmin": 0,
        "zmax": 1,
        "colorscale": SCALE,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }


def _colour(look: Style) -> str:
    """Return the colour of a line, one that is visible on dark backgrounds as well."""
    return "gray" if look.colour in (INK, GREY) else look.colour


def _marker(look: Style, size: int) -> Data:
    symbol = SYMBOLS.get(look.marker, "circle") + FILLS[look.kind % len(FILLS)]
    line = {"color": look.edge, "width": 1.5}
    return {"color": _colour(look), "symbol": symbol, "line": line, "size": size}


def _fill(look: Style) -> Data:
    """Return the fill of a bar: solid for the first learner of a colour, hatched for others."""
    filled: Data = {"color": look.colour, "line": {"color": look.colour, "width": 1}}
    if look.kind == 0:
        return filled
    shape = HATCHES[look.kind % len(HATCHES)] or "|"
    return filled | {"pattern": {"shape": shape, "fillmode": "replace", "size": 6}}


def _hover(text: str) -> str:
    title, *lines = text.split("\n")
    return "<br>".join([f"<b>{_plain(title)}</b>", *(_plain(line) for line in lines)])


def _plain(text: str) -> str:
    """Escape a text and wrap it; plotly would interpret some tags."""
    lines = [piece for line in text.split("\n") for piece in textwrap.wrap(line, LABEL_WIDTH)]
    return "<br>".join(escape(line, quote=False) for line in lines)
