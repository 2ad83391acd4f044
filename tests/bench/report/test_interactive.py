"""Figures on the page: how a description becomes data and layout of plotly."""

import itertools

import plotly.graph_objects as go
import pytest

from bench.report import interactive
from bench.report.figures.description import Axis, Bars, Figure, Line, Panel
from bench.report.figures.styles import Style
from tests.bench.report.test_figures import BLUE, SITUATIONS, elements, situation


@pytest.mark.parametrize("name", SITUATIONS)
def test_plotly_knows_every_word(name: str) -> None:
    for figure in situation(name).values():
        for panel in figure.panels:
            go.Figure(interactive.draw(figure, panel))
            assert interactive.height(figure, panel) > 119 * figure.height


def test_every_element_is_drawn() -> None:
    figure = elements()
    drawn = [interactive.draw(figure, panel) for panel in figure.panels]
    bars, thin, band, thick, points = drawn[0]["data"]
    assert bars["name"] == "&lt;/script&gt;&lt;b&gt;evil&lt;/b&gt; %{x}"
    assert not any("template" in key for key in bars)
    assert (bars["type"], bars["width"], bars["hovertext"][0]) == ("bar", 0.5, "<b>a</b><br>b")
    assert bars["error_y"]["array"][0] == 2 and bars["error_y"]["arrayminus"][0] == 1
    assert bars["marker"]["pattern"]["shape"] == "/"
    assert (band["fill"], band["y"], band["hoverinfo"]) == ("toself", [0, 3, 6, 2], "skip")
    assert (thick["mode"], thin["mode"]) == ("lines+markers", "lines")
    assert (thin["line"]["dash"], thin["line"]["color"]) == ("dash", "gray")
    assert [each["showlegend"] for each in (bars, thin, band, thick)] == [True, False, False, True]
    assert points["marker"]["symbol"] == "circle" and points["hovertext"] == ["<b>&lt;i&gt;</b>"]
    x = drawn[0]["layout"]["xaxis"]
    assert (x["range"], x["ticktext"]) == ([-1, 2], ["&lt;a&gt;", "b"])
    assert [each["y1"] for each in drawn[0]["layout"]["shapes"]] == [1.2]
    assert drawn[0]["layout"]["yaxis"]["rangemode"] == "tozero"
    (heat,) = drawn[1]["data"]
    assert heat["z"] == [[None, 0.9], [0.1, None]] and heat["text"][0] == ["", "+1"]
    assert heat["texttemplate"] == "%{text}" and heat["hovertext"][0][1] == "<b>a</b>"
    log = drawn[2]["layout"]["xaxis"]
    assert log["type"] == "log" and 2 < log["range"][1] < 3


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
