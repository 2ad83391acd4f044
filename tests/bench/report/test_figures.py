"""Figures: what they show, as descriptions."""

from functools import cache
from math import isnan, nan

import pytest

from bench.report.figures import figures, scores
from bench.report.figures.cost import front
from bench.report.figures.description import Axis, Bars, Figure, Line, Matrix, Panel, Points
from bench.report.figures.learning_curves import learning_curves
from bench.report.figures.parts import log_axis, short
from bench.report.figures.styles import Style
from bench.report.leaderboard import leaderboards
from tests.bench.report.samples import ACCURACY, Row, curve, episodes, failed, fits, record, timed
from tests.bench.report.test_shifts import elsewhere
from tests.bench.report.test_trials import STATISTICS, tried

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
    "crowd": [
        record("maml", algo_options={"inner_steps": n}, cell=f"maml{n}") for n in range(1, 21)
    ],
    "mixed": [
        *(record(algo, backbone=b, cell=algo + b) for algo in FOUR for b in ("conv4", "resnet12")),
        failed("learn2learn/reptile"),
    ],
}


def shown(rows: list[Row]) -> dict[str, Figure]:
    """The figures of rows of which all was stored that can be."""
    done = [row for row in rows if row["status"] == "done"]
    found = figures(
        rows,
        leaderboards(rows, {row["cell"]: episodes(row) for row in done}),
        {row["cell"]: curve(row) for row in done},
        {row["cell"]: tried(row, STATISTICS) for row in done},
        {row["cell"]: elsewhere({"glyphs": 60.0, "fc100": 40.0}) for row in done},
        {row["cell"]: fits(row) for row in done},
        {},
    )
    return {name: figure for name, figure in found.items() if figure.panels}


@cache
def situation(name: str) -> dict[str, Figure]:
    """The figures of a situation."""
    return shown(SITUATIONS[name])


EVIL = "</script><b>evil</b> %{x}"
BLUE, PEER, RED = Style("#0072B2", "o"), Style("#0072B2", "o", 1), Style("#D55E00", "v")
THIN = Style("#222222", kind=1, opacity=0.5)


def elements() -> Figure:
    """A figure with all that there is."""
    ticks = {0: "<a>", 1: "b"}
    x = Axis("x", low=-1, high=2, ticks=ticks, grid=False)
    series = [
        Bars(
            EVIL, PEER, [0, 1], [3, nan], [[2, nan], [5, nan]], ["a\nb", ""], 0.5, ["3", "failed"]
        ),
        Line("line", THIN, [0, 1], [1, 3]),
        Line("line", RED, [0, 1], [1, 4], [[0, 3], [2, 6]]),
        Points("points", BLUE, [0.5], [2], [[1], [2.5]], ["<i>"]),
    ]
    wins = Matrix([[nan, 0.9], [0.1, nan]], [["", "+1"], ["-1", ""]], [["", "a"], ["", ""]])
    steep = [Line("line", RED, [1, 100], [1, 99.9], [[-9, 90], [9, 109]])]
    panels = [
        Panel("one", x, Axis("y", low=0), series, brackets=[(0, 1)]),
        Panel("two", x, x, matrix=wins),
        Panel("three", log_axis("log", [1, 100]), Axis("%", bounds=(0, 100)), steep),
    ]
    return Figure(panels, "A note.")


def only(figure: Figure) -> Panel:
    (panel,) = figure.panels
    return panel


def bars(panel: Panel) -> list[Bars]:
    return [series for series in panel.series if isinstance(series, Bars)]


def test_scores_are_bars_with_their_intervals_by_setting() -> None:
    panel = only(situation("grid")["accuracy"])
    assert {y for each in bars(panel) for y in each.y} == {
        row["score"] for row in SITUATIONS["grid"]
    }
    assert list(panel.x.ticks.values()) == [
        "5-way 1-shot", "5-way 5-shot", "20-way 1-shot", "20-way 5-shot",
    ]  # fmt: skip
    assert (panel.y.label, panel.y.low, panel.y.bounds) == ("Test accuracy (%)", 0, (0, 100))
    chance = [y for y in panel.legend["chance"].y if not isnan(y)]
    assert chance == [20, 20, 20, 20, 5, 5, 5, 5]
    (bar,) = bars(only(scores([record(score=90.0, ci95=2.5)])))
    assert (bar.ends, bar.texts) == ([[87.5], [92.5]], ["90.0"])
    assert bar.hover == ["MAML\n5-way 1-shot\n90.0 ± 2.5 %"]


def test_a_failed_cell_is_written_where_its_bar_would_be() -> None:
    panels = situation("mixed")["accuracy"].panels
    texts = [[text for each in bars(panel) for text in each.texts] for panel in panels]
    assert [each.count("failed") for each in texts] == [1, 0]


def test_learning_curves_of_one_seed_have_a_band() -> None:
    first = curve(SITUATIONS["four"][0])
    for x, label in (("episodes", "Training episodes"), ("seconds", "Training time (s)")):
        panel = only(situation("four")[f"learning_curves_{x}"])
        assert (panel.x.label, panel.y.label) == (label, "Validation accuracy (%)")
        assert [line.label for line in panel.series] == list(panel.legend)
        line = panel.series[0]
        assert (line.x, line.y) == (first[x].tolist(), first["val_score"].tolist())
        assert line.ends[0] == pytest.approx((first["val_score"] - first["val_ci95"]).tolist())
        assert "±" in line.hover[0]


def test_learning_curves_of_seeds_have_thin_lines_and_their_mean() -> None:
    rows = [record(seed=seed) for seed in range(3)]
    *thin, mean = only(shown(rows)["learning_curves_seconds"]).series
    assert len(thin) == 3 and all(line.style.width < 1 and not line.hover for line in thin)
    assert not mean.ends and "±" not in mean.hover[0]
    for found, column in ((mean.x, "seconds"), (mean.y, "val_score")):
        wanted = sum(curve(row)[column] for row in rows) / 3
        assert found == pytest.approx(wanted.tolist())


def test_learning_curves_average_what_all_seeds_have() -> None:
    rows = [record(seed=0), record(seed=1)]
    curves = {rows[0]["cell"]: curve(rows[0], 13), rows[1]["cell"]: curve(rows[1], 7)}
    panel = only(learning_curves(rows, curves, "episodes"))
    assert panel.series[-1].x == list(range(0, 24001, 4000))


def test_numbers_below_one_have_no_prefix() -> None:
    assert [short(x) for x in (0, 0.5, 0.0021, 1, 20.5, 1500)] == [
        "0", "0.5", "0.0021", "1", "20.5", "1.5k"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(3.0, 40.0, {"5", "10", "20"}), (1.0, 1e4, {"1", "10", "1k"})]
)
def test_log_axes_have_plain_ticks(low: float, high: float, ticks: set[str]) -> None:
    axis = log_axis("", [low, 0.0, high])
    texts = set(axis.ticks.values())
    assert ticks <= texts and ("2" in texts) == (high < 100)
    assert axis.low is not None and 0 < axis.low < low
    assert log_axis("", []).ticks == {1.0: "1"}, "of errors that are all 0"


def test_throughput_is_bars_by_phase_on_one_scale() -> None:
    panel = only(situation("four")["throughput"])
    assert panel.y.log and list(panel.x.ticks.values()) == ["train", "adapt", "infer"]
    wanted = [e["tasks_per_s"] for row in SITUATIONS["four"] for e in row["throughput"]]
    assert sorted(y for each in bars(panel) for y in each.y) == pytest.approx(sorted(wanted))
    assert len({panel.y.high for panel in situation("grid")["throughput"].panels}) == 1


def test_speed_against_meta_batch() -> None:
    assert "throughput_meta_batch" not in situation("four")
    panel = only(situation("meta-batches")["throughput_meta_batch"])
    assert [list(line.x) for line in panel.series] == 4 * [[1, 4, 32]]
    assert list(panel.series[0].y) == [10, 38.5, 41.5]
    assert list(panel.x.ticks.values()) == ["1", "4", "32"]


def test_scores_stand_against_speed_and_costs() -> None:
    slow = record("maml", train_seconds=200.0, score=90.0)
    fast = record("protonet", train_seconds=50.0, score=95.0)
    slow["throughput"][1]["tasks_per_s"], fast["throughput"][1]["tasks_per_s"] = 50.0, 500.0
    speed, training, adapting = shown([slow, fast])["score_throughput"].panels
    assert all(panel.x.log for panel in (speed, training, adapting))
    assert [each.x for each in training.series] == [[200.0], [50.0], [50.0, 200.0]]
    assert [each.x for each in adapting.series] == [[20.0], [2.0], [2.0, 20.0]]
    assert training.series[-1].y == [95.0, 95.0] and len(speed.series) == 2
    assert "adapting 20.0 ms per task" in speed.series[0].hover[0]
    assert training.place == "omniglot, 5-way 1-shot"


def test_the_front_of_cost_and_score() -> None:
    line = front([(9.0, 95.0), (3.0, 80.0), (1.0, 90.0), (1.0, 85.0)], ACCURACY)
    assert (line.x, line.y) == ([1, 9, 9, 9], [90, 90, 95, 95])
    error = ACCURACY.model_copy(update={"higher_is_better": False})
    assert front([(1.0, 0.5), (2.0, 0.1), (3.0, 0.2)], error).y == [0.5, 0.5, 0.1, 0.1]


def test_functions_have_a_row_of_panels_for_each_learner() -> None:
    figure = shown([record("maml"), record("r2d2")])["functions"]
    assert figure.columns == 2
    assert [panel.title for panel in figure.panels] == 2 * ["MAML, 5-way 1-shot"] + 2 * [
        "R2D2, 5-way 1-shot"
    ]
    drawn = figure.panels[0].legend
    assert list(drawn) == ["function", "before", "after", "shots"]
    assert drawn["after"].x == [-1, 0, 1, 2] and drawn["shots"].x == [0.0, 2.0]
    assert list(figure.panels[-1].legend) == ["function", "after", "shots"], "no inner loop"


def test_a_learner_looks_the_same_in_every_figure_and_subset() -> None:
    seen: dict[str, set[tuple[str, str]]] = {}
    # The stranger was not timed, and so is not in every figure.
    rows = [record("aaa", throughput=[]), *SITUATIONS["four"], record("zzz")]
    for chosen in (rows, rows[3:4], rows[4:5]):
        for figure in shown(chosen).values():
            for series in [series for panel in figure.panels for series in panel.series]:
                look = series.style
                if isinstance(series, Bars | Points) or look.marker:
                    seen.setdefault(series.label, set()).add((look.colour, look.marker))
    del seen["shots"]
    assert set(seen) == {"MAML", "Reptile", "ProtoNet", "MetaOptNet", "aaa", "zzz"}
    assert all(len(looks) == 1 for looks in seen.values())


def test_figures_without_data_have_no_panels() -> None:
    row = record(throughput=[])
    found = figures([row], [], {row["cell"]: curve(row)}, {}, {}, {}, {})
    drawn = {name for name, figure in found.items() if figure.panels}
    assert drawn == {"accuracy", "learning_curves_episodes"}
    assert not any(figure.panels for figure in figures([failed()], [], {}, {}, {}, {}, {}).values())
