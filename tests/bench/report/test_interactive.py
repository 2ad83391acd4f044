"""Figures on the page: how a description becomes data and layout of plotly."""

import itertools

import plotly.graph_objects as go
import pytest

from bench.report import interactive
from bench.report.figures.description import Axis, Bars, Figure, Line, Matrix, Panel, Points
from bench.report.figures.parts import log_axis
from bench.report.figures.styles import INK, Style
from tests.bench.report.test_figures import SITUATIONS, situation

EVIL = "</script><b>evil</b> %{x}"
BLUE, PEER = Style("#0072B2", "o"), Style("#0072B2", "o", 1)


@pytest.mark.parametrize("name", SITUATIONS)
def test_plotly_knows_every_word(name: str) -> None:
    for figure in situation(name).values():
        for panel in figure.panels:
            go.Figure(interactive.draw(figure, panel))
            assert interactive.height(figure, panel) > 119 * figure.height


def test_every_element_is_drawn() -> None:
    nan = float("nan")
    series = [
        Bars(EVIL, PEER, [0, 1], [3, nan], [[2, nan], [5, nan]], ["a\nb", ""], 0.5, ["", "failed"]),
        Line("line", BLUE, [0, 1], [1, 4], [[0, 3], [2, 6]]),
        Line("line", Style(INK, kind=1, opacity=0.5), [0, 1], [1, 4]),
        Points("points", BLUE, [0.5], [2], [[1], [2.5]], ["<i>"]),
    ]
    x = Axis("x", low=-1, high=2, ticks={0: "<a>", 1: "b"}, grid=False)
    panel = Panel("one", x, log_axis("log", [1, 100]), series, brackets=[(0, 1)])
    drawn = interactive.draw(Figure([panel]), panel)
    bars, band, thick, thin, points = drawn["data"]
    assert bars["name"] == "&lt;/script&gt;&lt;b&gt;evil&lt;/b&gt; %{x}"
    assert not any("template" in key for key in bars)
    assert (bars["type"], bars["width"], bars["hovertext"][0]) == ("bar", 0.5, "<b>a</b><br>b")
    assert bars["error_y"]["array"][0] == 2 and bars["error_y"]["arrayminus"][0] == 1
    assert bars["marker"]["pattern"]["shape"] == "/"
    assert (band["fill"], band["y"], band["hoverinfo"]) == ("toself", [0, 3, 6, 2], "skip")
    assert (thick["mode"], thin["mode"]) == ("lines+markers", "lines")
    assert (thin["line"]["dash"], thin["line"]["color"]) == ("dash", "gray")
    assert [each["showlegend"] for each in (bars, band, thick, thin)] == [True, False, False, True]
    assert points["marker"]["symbol"] == "circle" and points["hovertext"] == ["<b>&lt;i&gt;</b>"]
    layout = drawn["layout"]
    assert (layout["xaxis"]["range"], layout["xaxis"]["ticktext"]) == ([-1, 2], ["&lt;a&gt;", "b"])
    assert layout["yaxis"]["type"] == "log" and layout["yaxis"]["range"][1] > 2
    assert [each["y1"] for each in layout["shapes"]] == [1.2]


def test_a_matrix_has_its_numbers_written_in_it() -> None:
    wins = Matrix([[float("nan"), 0.9], [0.1, 0.5]], [["", "+1"], ["-1", ""]], 2 * [["", "a"]])
    panel = Panel("", Axis(), Axis(), matrix=wins)
    (heat,) = interactive.draw(Figure([panel], legend=False), panel)["data"]
    assert heat["z"] == [[None, 0.9], [0.1, 0.5]] and heat["text"][0] == ["", "+1"]
    assert heat["texttemplate"] == "%{text}" and heat["hovertext"][0][1] == "<b>a</b>"


def test_learners_of_one_colour_differ_in_more() -> None:
    looks = [Style(BLUE.colour, "o", kind) for kind in range(3)]
    lines = [Line(str(look.kind), look, [0], [0]) for look in looks]
    bars = [Bars(str(look.kind), look, [0], [0]) for look in looks]
    panels = [Panel("", Axis(), Axis(), series) for series in (lines, bars)]
    drawn = [interactive.draw(Figure(panels), panel)["data"] for panel in panels]
    assert len({each["line"]["dash"] for each in drawn[0]}) == 3
    assert len({each["marker"]["symbol"] for each in drawn[0]}) == 3
    assert len({each["marker"].get("pattern", {}).get("shape") for each in drawn[1]}) == 3
    assert len({each["marker"]["color"] for each in itertools.chain(*drawn)}) == 1
