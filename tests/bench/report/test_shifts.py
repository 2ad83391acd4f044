"""Tables and the figure of trained learners on other data sets."""

import math

import pandas as pd
import pytest

from bench import report
from bench.report import interactive, shifts
from bench.stats import intervals
from tests.bench.report.samples import folder, record
from tests.bench.report.test_plots import FOUR, assert_texts_apart

MAML = record("maml", score=96.0, ci95=0.3)
PROTONET = record("protonet", score=97.0, ci95=0.4)


def elsewhere(accuracies: dict[str, float], seen: float = 0.0) -> pd.DataFrame:
    lines = [
        {
            "dataset": name,
            "data_digest": "ef56",
            "episodes": 100,
            "episodes_digest": "1a2b",
            "score": value,
            "ci95": 0.4,
            "seen": seen,
        }
        for name, value in accuracies.items()
    ]
    return pd.DataFrame(lines)


BY_CELL = {
    MAML["cell"]: elsewhere({"glyphs": 80.0, "fc100": 30.0}),
    PROTONET["cell"]: elsewhere({"fc100": 97.5}, seen=12.3),
}


def test_markdown_golden() -> None:
    text = shifts.shift_markdown([MAML, PROTONET, record("reptile")], BY_CELL)
    assert text is not None
    assert text.split("\n")[:9] == [
        "### omniglot, 5-way 1-shot",
        "",
        "| Learner | trained on | tested on | score | difference | seen |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| MAML | omniglot | omniglot | 96.0 ± 0.3 | – | – |",
        # of two tests on episodes of their own: 0.5 is the root of 0.3² + 0.4²
        "| MAML | omniglot | fc100 | 30.0 ± 0.4 | -66.0 ± 0.5 | 0.0 % |",
        "| MAML | omniglot | glyphs | 80.0 ± 0.4 | -16.0 ± 0.5 | 0.0 % |",
        "| ProtoNet | omniglot | omniglot | 97.0 ± 0.4 | – | – |",
        "| ProtoNet | omniglot | fc100 | 97.5 ± 0.4 | +0.5 ± 0.6 | 12.3 % |",
    ]
    assert "Reptile" not in text


def test_differences_are_over_seeds_and_the_episodes_of_both_tests() -> None:
    """All seeds lose 10 to 12 points, however far they are from each other."""
    rows = [record("maml", seed=seed, score=60.0 + 10 * seed) for seed in range(3)]
    lost = (10.0, 11.0, 12.0)
    found = {
        row["cell"]: elsewhere({"glyphs": row["score"] - points})
        for row, points in zip(rows, lost, strict=True)
    }
    (table,) = shifts.shift_tables(rows, found)
    half = intervals.estimate_without_episodes(lost, [math.hypot(0.42, 0.4)] * 3).half
    assert table.cells[1][4] == f"-11.0 ± {half:.1f}"
    half = intervals.estimate_without_episodes([50.0, 59.0, 68.0], [0.4] * 3).half
    assert table.cells[1][3] == f"59.0 ± {half:.1f}"
    del found[rows[1]["cell"]]
    (table,) = shifts.shift_tables(rows, found)
    assert table.cells[0][3].startswith("70.0 ±"), "the own test has all seeds"
    assert table.cells[1][4].startswith("-11.0 ±"), "the difference has those tested there"


def test_table_has_a_row_a_cell_and_data_set() -> None:
    table = shifts.shift_table([PROTONET, MAML, record("reptile")], BY_CELL)
    assert table is not None
    assert table[["algo", "tested_on"]].to_numpy().tolist() == [
        ["maml", "omniglot"],
        ["maml", "glyphs"],
        ["maml", "fc100"],
        ["protonet", "omniglot"],
        ["protonet", "fc100"],
    ]
    assert table["data_digest"].tolist() == ["ab12cd34ef56", "ef56", "ef56"] + [
        "ab12cd34ef56",
        "ef56",
    ]
    assert table["difference"].dropna().tolist() == [-16, -66, 0.5]
    assert table["difference_ci95"].dropna().tolist() == pytest.approx([0.5, 0.5, math.sqrt(0.32)])


@pytest.mark.parametrize("count", [1, 6])
def test_figure_has_a_group_a_data_set(count: int) -> None:
    rows = [record(a, n, s) for a in FOUR for n, s in ((5, 1), (20, 5))][: 2 if count == 1 else 8]
    found = {row["cell"]: elsewhere({f"set{i}": 40.0 + i for i in range(count)}) for row in rows}
    figure = shifts.figures(rows, found)["shift"]
    assert figure is not None and len(figure.axes) == 2
    first = figure.axes[0]
    names = [tick.get_text() for tick in first.get_xticklabels()]
    assert names == ["omniglot (own)", *(f"set{i}" for i in range(count))]
    heights = [bar.get_height() for bar in first.patches]
    own = [row["score"] for row in rows if row["ways"] == 5]
    assert heights == [*own, *(40.0 + i for i in range(count) for _ in own)]
    assert first.lines[-1].get_ydata()[0] == 20
    assert_texts_apart("shift", figure)


def test_the_page_has_the_same_bars() -> None:
    (plot,) = interactive.shift([MAML, PROTONET], BY_CELL)
    maml, protonet = plot.data
    assert maml["x"] == ["omniglot (own)", "fc100", "glyphs"]
    assert (maml["y"], maml["error_y"]["array"]) == ([96.0, 30.0, 80.0], [0.3, 0.4, 0.4])
    assert protonet["x"] == ["omniglot (own)", "fc100"]
    assert plot.place == "omniglot, 5-way 1-shot"


def test_nothing_is_shown_where_nothing_was_tried(tmp_path) -> None:
    assert shifts.shift_markdown([MAML], {}) is None
    assert shifts.shift_table([MAML], {}) is None
    assert shifts.figures([MAML], {}) == {"shift": None}
    folder(tmp_path, [MAML])
    path = tmp_path / "runs" / MAML["cell"] / "shift.csv"
    BY_CELL[MAML["cell"]].to_csv(path, index=False)

    def shown() -> set[str]:
        views = report.texts(report.gather(tmp_path))
        return {name for name in ("shift.csv", "shift.md", "shift.tex") if views[name]}

    assert len(shown()) == 3
    path.write_text("dataset\nglyphs\n")
    assert not shown()
