"""Tables and the figure of what was tried with trained learners."""

import pandas as pd

from bench.report import build, trials
from bench.report.figures import adaptation
from bench.report.tables import joined
from tests.bench.report.samples import Row, folder, record

STATISTICS = {"support": 90.0, "query": 25.0, "all_queries": 94.5}


def tried(row: Row, statistics: dict[str, float]) -> pd.DataFrame:
    lines = [("norm_statistics", name, 15, value) for name, value in statistics.items()]
    lines += [("steps", str(n), 15, 80.0 + n) for n in (1, 5)] if row["algo"] == "maml" else []
    lines += [("shots", str(n), 5, row["score"] - 5 + n) for n in (1, 2, 5)]
    frame = pd.DataFrame(lines, columns=["varied", "value", "queries", "score"])
    return frame.assign(episodes=100, ci95=1.0)


MAML = record("maml", norm_statistics="support")
PROTONET = record("protonet", norm_statistics="running")
BY_CELL = {
    MAML["cell"]: tried(MAML, STATISTICS),
    PROTONET["cell"]: tried(PROTONET, {"running": 96.0, "all_queries": 95.9}),
}


def test_transduction_markdown_golden() -> None:
    text = joined(trials.transduction_tables([MAML, PROTONET, record("reptile")], BY_CELL))
    assert text is not None
    assert text.split("\n")[:6] == [
        "### omniglot, 5-way 1-shot",
        "",
        "| Learner | running averages | support set | support and the query | the query alone | "
        "all queries | gap |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| MAML | – | **90.0** | – | 25.0 | 94.5 | +4.5 |",
        "| ProtoNet | **96.0** | – | – | – | 95.9 | -0.1 |",
    ]
    assert "100 test episodes" in text


def test_table_has_a_row_a_cell_and_trial() -> None:
    table = trials.trials_table([MAML, PROTONET, record("reptile")], BY_CELL)
    assert table is not None and len(table) == 8 + 5
    assert list(table.columns[:8]) == [
        "algo", "dataset", "ways", "shots", "seed", "cell", "varied", "value",
    ]  # fmt: skip


def test_figure_has_a_panel_for_what_was_varied() -> None:
    steps, shots = adaptation([MAML, PROTONET], BY_CELL).panels
    assert steps.x.label == "Inner steps at test (log scale)" and shots.x.label.startswith("Shots")
    assert [list(panel.legend) for panel in (steps, shots)] == [["MAML"], ["MAML", "ProtoNet"]]
    assert (steps.series[0].x, steps.series[0].y) == ([1, 5], [81, 85])
    assert steps.series[0].ends == ([80, 84], [82, 86])
    assert list(shots.x.ticks.values()) == ["1", "2", "5"]


def test_seeds_are_averaged() -> None:
    rows = [record("maml", seed=seed, norm_statistics="support") for seed in (0, 1)]
    found = {
        row["cell"]: tried(row, {"support": 90.0 + row["seed"], "all_queries": 95.0})
        for row in rows
    }
    text = joined(trials.transduction_tables(rows, found))
    assert text is not None and "| **90.5** | – | – | 95.0 | +4.5 |" in text


def test_nothing_is_shown_where_nothing_was_tried(tmp_path, undrawn) -> None:
    assert trials.transduction_tables([MAML], {}) == []
    assert trials.trials_table([MAML], {}) is None
    assert not adaptation([MAML], {}).panels
    folder(tmp_path, [MAML])
    path = tmp_path / "runs" / MAML["cell"] / "probe.csv"
    BY_CELL[MAML["cell"]].to_csv(path, index=False)
    names = {"probe.csv", "transduction.md", "adaptation.png", "adaptation.pdf"}
    assert names <= {built.name for built in build(tmp_path).paths}
    path.unlink()
    assert not names & {built.name for built in build(tmp_path).paths}
