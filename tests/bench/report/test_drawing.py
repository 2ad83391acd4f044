"""Figures on paper: how a description is drawn, and that texts are apart."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from bench.report import drawing
from bench.report.figures.styles import styles
from bench.report.rows import with_labels
from tests.bench.report.samples import record
from tests.bench.report.test_figures import EIGHT, EVIL, RED, SITUATIONS, elements, situation


def texts_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """All drawn texts with their extents."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    hidden = set()
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
    found = []
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in hidden:
            found.append((text.get_text(), Text.get_window_extent(text, renderer)))
    return found


def assert_texts_apart(name: str, figure: Figure) -> None:
    texts = texts_of(figure)
    assert len(texts) > 5
    page = figure.bbox.padded(1)
    for text, box in texts:
        inside = page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1)
        assert inside, f"{name}: {text!r} leaves the figure"
    lows = np.array([box.min for _, box in texts]) + 0.5
    highs = np.array([box.max for _, box in texts]) - 0.5
    common = np.minimum(highs, highs[:, None]) - np.maximum(lows, lows[:, None])
    for one, other in np.argwhere(np.triu((common >= 0).all(-1), 1)):
        raise AssertionError(f"{name}: {texts[one][0]!r} on {texts[other][0]!r}")


@pytest.mark.parametrize("name", SITUATIONS)
def test_no_text_overlaps_or_leaves_the_figure(name: str) -> None:
    for title, figure in situation(name).items():
        assert_texts_apart(title, drawing.draw(figure))


def test_every_element_is_drawn() -> None:
    drawn = drawing.draw(elements())
    assert_texts_apart("all", drawn)
    one, two, three = drawn.axes
    assert (one.get_xlabel(), one.get_ylabel(), one.get_title()) == ("x", "y", "one")
    assert [tick.get_text() for tick in one.get_xticklabels()] == ["<a>", "b"]
    (bars,) = [each for each in one.containers if isinstance(each, BarContainer)]
    assert bars.patches[0].get_height() == 3 and bars.patches[0].get_hatch()
    assert {text.get_text() for text in one.texts} == {"3", "failed"}
    errors = [e for e in one.containers if isinstance(e, ErrorbarContainer)]
    assert errors[-1].lines[2][0].get_segments()[0][:, 1].tolist() == [1, 2.5]
    lines = {tuple(line.get_ydata()): to_hex(line.get_color()).upper() for line in one.lines}
    assert lines[1, 4] == RED.colour and (-0.15, 1.15) in lines
    assert [text.get_text() for text in two.texts if text.get_text()] == ["+1", "-1"]
    assert three.get_xscale() == "log"
    assert [t.get_text() for t in three.get_xticklabels()] == ["1", "10", "100"]
    assert min(three.get_yticks()) >= 0 and max(three.get_yticks()) <= 100 < three.get_ylim()[1]
    names = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert names == [EVIL, "line", "points"]
    assert not drawing.draw(replace(elements(), legend=False)).legends


def test_styles_do_not_collide() -> None:
    names = [*EIGHT, "learn2learn/reptile", *(f"stranger{i}" for i in range(8))]
    looks = styles(with_labels([record(name) for name in names]))
    for keywords in (drawing._bar, drawing._line):
        assert len({repr(keywords(look)) for look in looks.values()}) == len(names)


def test_nothing_outside_changes_and_bytes_are_the_same_again() -> None:
    before, figure = dict(matplotlib.rcParams), situation("one")["accuracy"]
    for kind in ("png", "pdf"):
        assert drawing.image(figure, kind) == drawing.image(figure, kind)
    assert dict(matplotlib.rcParams) == before
