"""Figures: what is drawn, that texts are apart, that nothing outside changes."""

from functools import cache

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from bench.report import plots, rankings
from bench.report.drawing import short
from bench.report.leaderboard import leaderboards
from bench.report.rows import with_labels
from tests.bench.report.samples import ACCURACY, Row, curve, episodes, failed, record, timed

FOUR = ["maml", "reptile", "protonet", "metaoptnet"]
EIGHT = [*FOUR, "learn2learn/maml", "learn2learn/protonet", "my_new_learner", "baseline++"]
SETTINGS = [(5, 1), (5, 5), (20, 1), (20, 5)]
SITUATIONS = {
    "one": [record("maml")],
    "four": [record(algo) for algo in FOUR],
    "close": [record(algo, score=97 + i / 10) for i, algo in enumerate(EIGHT)],
    "grid": [record(algo, *s, transductive=algo == "reptile") for algo in FOUR for s in SETTINGS],
    "many": [record(algo, *s) for algo in EIGHT for s in SETTINGS],
    "seeds": [
        record(algo, seed=seed, dataset=data, cell=f"{algo}{data}{seed}")
        for algo in FOUR
        for seed in range(3)
        for data in ("omniglot", "miniimagenet")
    ],
    "variants": [
        record(
            algo,
            order=order,
            cell=f"{algo}{order}",
            algo_options={"inner_steps": 5 * order, "inner_lr": 0.4 * order},
            transductive=order == 1,
            throughput=[
                {**entry, "tasks_per_s": 1.2e6 * order} for entry in record()["throughput"]
            ],
        )
        for algo in ("maml", "reptile", "learn2learn/maml")
        for order in (1, 2)
    ],
    "meta-batches": [
        record(algo, seed=seed, meta_batch=size, cell=f"{algo}{size}{seed}", throughput=timed(rate))
        for i, algo in enumerate(FOUR)
        for seed in (0, 1)
        for size, rate in ((1, 10 + i), (4, 38 + i + seed), (32, 41 + i + seed))
    ],
    "mixed": [
        *(record(algo, backbone=b, cell=algo + b) for algo in FOUR for b in ("conv4", "resnet12")),
        failed("learn2learn/reptile"),
    ],
}


def draw(rows: list[Row]) -> dict[str, Figure]:
    curves = {row["cell"]: curve(row) for row in rows if row["status"] == "done"}
    tested = {row["cell"]: episodes(row) for row in rows if row["status"] == "done"}
    made = plots.figures(rows, curves) | rankings.figures(leaderboards(rows, tested))
    return {name: figure for name, figure in made.items() if figure is not None}


@cache
def drawn(situation: str) -> dict[str, Figure]:
    """The figures of a situation; the tests only read them."""
    return draw(SITUATIONS[situation])


def bars(ax: Axes) -> list[BarContainer]:
    return [c for c in ax.containers if isinstance(c, BarContainer)]


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


@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_text_overlaps_or_leaves_the_figure(situation: str) -> None:
    for name, figure in drawn(situation).items():
        assert_texts_apart(name, figure)


def test_accuracy_figure() -> None:
    (ax,) = drawn("grid")["accuracy"].axes
    heights = [bar.patches[0].get_height() for bar in bars(ax)]
    wanted = {row["score"] for row in SITUATIONS["grid"]}
    assert len(heights) == 16 and set(heights) == wanted
    assert len([c for c in ax.containers if isinstance(c, ErrorbarContainer)]) == 16
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylabel() == "Test accuracy (%)"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "5-way 1-shot",
        "5-way 5-shot",
        "20-way 1-shot",
        "20-way 5-shot",
    ]
    chance = [lines.get_segments()[0][0][1] for lines in ax.collections[-4:]]
    assert set(chance) == {20.0, 5.0}


def test_accuracy_error_bars_are_the_intervals() -> None:
    figure = plots.scores([record(score=90.0, ci95=2.5)], ACCURACY)
    assert figure is not None
    (ax,) = figure.axes
    (container,) = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    (segment,) = container.lines[2][0].get_segments()
    assert segment[:, 1].tolist() == [87.5, 92.5]


def test_a_failed_cell_is_written_where_its_bar_would_be() -> None:
    axes = drawn("mixed")["accuracy"].axes
    assert [[t.get_text() for t in ax.texts].count("failed") for ax in axes] == [1, 0]


def test_learning_curves_of_one_seed_have_a_band() -> None:
    rows = SITUATIONS["four"]
    for x, label in (("episodes", "Training episodes"), ("seconds", "Training time (s)")):
        (ax,) = drawn("four")[f"learning_curves_{x}"].axes
        assert (len(ax.lines), len(ax.collections)) == (4, 4)
        assert ax.get_xlabel() == label and ax.get_ylabel() == "Validation accuracy (%)"
        assert ax.lines[0].get_xdata().tolist() == curve(rows[0])[x].tolist()
        assert ax.lines[0].get_ydata().tolist() == curve(rows[0])["val_score"].tolist()


def test_learning_curves_of_seeds_have_thin_lines_and_their_mean() -> None:
    rows = [record(seed=seed) for seed in range(3)]
    (ax,) = draw(rows)["learning_curves_seconds"].axes
    assert (len(ax.lines), len(ax.collections)) == (4, 0)
    for axis, column in ((0, "seconds"), (1, "val_score")):
        mean = sum(curve(row)[column] for row in rows) / 3
        assert ax.lines[-1].get_data()[axis].tolist() == pytest.approx(mean.tolist())


def test_learning_curves_average_what_all_seeds_have() -> None:
    rows = [record(seed=0), record(seed=1)]
    curves = {rows[0]["cell"]: curve(rows[0], 13), rows[1]["cell"]: curve(rows[1], 7)}
    figure = plots.learning_curves(rows, curves, "episodes")
    assert figure is not None
    assert figure.axes[0].lines[-1].get_xdata().tolist() == list(range(0, 24001, 4000))


def test_numbers_below_one_have_no_prefix() -> None:
    assert [short(x) for x in (0, 0.5, 0.0021, 1, 20.5, 1500)] == [
        "0", "0.5", "0.0021", "1", "20.5", "1.5k"
    ]  # fmt: skip


def test_throughput_figure() -> None:
    (ax,) = drawn("four")["throughput"].axes
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "Tasks per second"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["train", "adapt", "infer"]
    tops = [bar.patches[0].get_y() + bar.patches[0].get_height() for bar in bars(ax)]
    wanted = [e["tasks_per_s"] for row in SITUATIONS["four"] for e in row["throughput"]]
    assert sorted(tops) == pytest.approx(sorted(wanted))


def test_speed_against_meta_batch() -> None:
    assert "throughput_meta_batch" not in drawn("four")
    (ax,) = drawn("meta-batches")["throughput_meta_batch"].axes
    assert [list(line.get_xdata()) for line in ax.lines] == 4 * [[1, 4, 32]]
    assert list(ax.lines[0].get_ydata()) == [10, 38.5, 41.5]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "4", "32"]


def test_score_throughput_figure() -> None:
    (ax,) = drawn("four")["score_throughput"].axes
    assert ax.get_xscale() == "log"
    assert len([c for c in ax.containers if isinstance(c, ErrorbarContainer)]) == 4
    assert [t.get_text() for t in ax.texts] == ["MAML", "Reptile", "ProtoNet", "MetaOptNet"]


def test_a_learner_looks_the_same_in_every_figure_and_subset() -> None:
    seen: dict[str, set[tuple[str, str]]] = {}
    # The stranger was not timed, and so is not in every figure.
    rows = [record("aaa", throughput=[]), *SITUATIONS["four"], record("zzz")]
    for chosen in (rows, rows[3:4], rows[4:5]):
        for name, figure in draw(chosen).items():
            for legend in figure.legends:
                for text, handle in zip(legend.texts, legend.legend_handles, strict=True):
                    assert handle is not None
                    patch = hasattr(handle, "get_facecolor")
                    colour = handle.get_facecolor() if patch else handle.get_color()
                    seen.setdefault(text.get_text(), set()).add(("colour", to_hex(colour)))
            if name == "score_throughput":
                for text, container in zip(
                    figure.axes[0].texts, figure.axes[0].containers, strict=True
                ):
                    line = container.lines[0]
                    look = ("colour", to_hex(line.get_color()))
                    seen.setdefault(text.get_text(), set()).add(look)
                    seen[text.get_text()].add(("marker", str(line.get_marker())))
    looks = {name: look for name, look in seen.items() if name != "chance"}
    assert set(looks) == {"MAML", "Reptile", "ProtoNet", "MetaOptNet", "aaa", "zzz"}
    assert {name: len(look) for name, look in looks.items()} == {
        **dict.fromkeys(looks, 2),
        "aaa": 1,
    }


def test_styles_do_not_collide() -> None:
    names = [*EIGHT, "learn2learn/reptile", *(f"stranger{i}" for i in range(8))]
    looks = plots.styles(with_labels([record(name) for name in names]))
    assert len(looks) == len(names)
    assert len({repr(sorted(look.bar().items())) for look in looks.values()}) == len(names)
    assert len({repr(sorted(look.line().items())) for look in looks.values()}) == len(names)


def test_nothing_outside_changes_and_pyplot_is_not_used() -> None:
    before = dict(matplotlib.rcParams)
    draw(SITUATIONS["four"])
    assert dict(matplotlib.rcParams) == before


def test_figures_without_data_are_left_out() -> None:
    assert set(draw([record(throughput=[])])) == {
        "accuracy",
        "learning_curves_episodes",
    }
    assert set(plots.figures([failed()], {}).values()) == {None}
