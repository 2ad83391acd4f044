"""Tables and the figure of what was tried with trained learners."""

import pandas as pd

from bench.report import build, trials
from tests.bench.report.samples import Row, folder, record
from tests.bench.report.test_plots import assert_texts_apart

STATISTICS = {"support": 90.0, "query": 25.0, "all_queries": 94.5}


def tried(row: Row, statistics: dict[str, float]) -> pd.DataFrame:
    lines = [("norm_statistics", name, 15, value) for name, value in statistics.items()]
    lines += [("steps", str(n), 15, 80.0 + n) for n in (1, 5)] if row["algo"] == "maml" else []
    lines += [("shots", str(n), 5, row["score"] - 5 + n) for n in (1, 2, 5)]
    frame = pd.DataFrame(lines, columns=["varied", "value", "queries", "score"])
    return frame.assign(episodes=100, ci95=1.0)


MAML = record("maml", algo_options={"norm_statistics": "support"})
PROTONET = record("protonet", norm_statistics="running")
BY_CELL = {
    MAML["cell"]: tried(MAML, STATISTICS),
    PROTONET["cell"]: tried(PROTONET, {"running": 96.0, "all_queries": 95.9}),
}


def test_transduction_markdown_golden() -> None:
    text = trials.transduction_markdown([MAML, PROTONET, record("reptile")], BY_CELL)
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
    figure = trials.figures([MAML, PROTONET], BY_CELL)["adaptation"]
    assert figure is not None
    steps, shots = figure.axes
    assert (steps.get_xlabel(), shots.get_xlabel()) == ("Inner steps at test", "Shots at test")
    assert [len(ax.lines) for ax in (steps, shots)] == [1, 2]
    assert steps.lines[0].get_xydata().tolist() == [[1, 81], [5, 85]]
    assert_texts_apart("adaptation", figure)


def test_seeds_are_averaged() -> None:
    rows = [record("maml", seed=seed, norm_statistics="support") for seed in (0, 1)]
    found = {
        row["cell"]: tried(row, {"support": 90.0 + row["seed"], "all_queries": 95.0})
        for row in rows
    }
    text = trials.transduction_markdown(rows, found)
    assert text is not None and "| **90.5** | – | – | 95.0 | +4.5 |" in text


def test_nothing_is_shown_where_nothing_was_tried(tmp_path, undrawn) -> None:
    assert trials.transduction_markdown([MAML], {}) is None
    assert trials.trials_table([MAML], {}) is None
    assert trials.figures([MAML], {}) == {"adaptation": None}
    folder(tmp_path, [MAML])
    path = tmp_path / "runs" / MAML["cell"] / "probe.csv"
    BY_CELL[MAML["cell"]].to_csv(path, index=False)
    names = {"probe.csv", "transduction.md", "adaptation.png", "adaptation.pdf"}
    assert names <= {built.name for built in build(tmp_path).paths}
    path.unlink()
    assert not names & {built.name for built in build(tmp_path).paths}
