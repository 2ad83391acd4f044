"""Tables and the figure of trained learners on other data sets."""

import math

import pandas as pd
import pytest

from bench import report
from bench.report import shifts
from bench.report.figures import shift
from bench.report.tables import joined
from bench.stats import intervals
from tests.bench.report.samples import folder, record

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
    text = joined(shifts.shift_tables([MAML, PROTONET, record("reptile")], BY_CELL))
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


def test_figure_has_a_group_a_data_set() -> None:
    (panel,) = shift([MAML, PROTONET], BY_CELL).panels
    maml, protonet, chance = panel.series
    assert list(panel.x.ticks.values()) == ["omniglot (own)", "fc100", "glyphs"]
    assert maml.y == [96.0, 30.0, 80.0] and maml.ends[1] == pytest.approx([96.3, 30.4, 80.4])
    assert [round(x) for x in protonet.x] == [0, 1] and protonet.y == [97.0, 97.5]
    assert chance.y[0] == 20 and panel.title == "omniglot, trained for 5-way 1-shot"
    assert panel.place == "omniglot, 5-way 1-shot"


def test_nothing_is_shown_where_nothing_was_tried(tmp_path) -> None:
    assert not shifts.shift_tables([MAML], {})
    assert shifts.shift_table([MAML], {}) is None
    assert not shift([MAML], {}).panels
    folder(tmp_path, [MAML])
    path = tmp_path / "runs" / MAML["cell"] / "shift.csv"
    BY_CELL[MAML["cell"]].to_csv(path, index=False)

    def shown() -> set[str]:
        views = report.texts(report.gather(tmp_path))
        return {name for name in ("shift.csv", "shift.md", "shift.tex") if views[name]}

    assert len(shown()) == 3
    path.write_text("dataset\nglyphs\n")
    assert not shown()
