"""A floor stands under every comparison with its test episodes, and is no rival in any."""

import numpy as np
import pandas as pd
import pytest

from bench.report import page, rows, tables
from bench.report.figures import ranking, scores
from bench.report.leaderboard import leaderboards, pairs_table, standings_table
from bench.report.rows import ALL_FACTS, SCORE, THROUGHPUT, comparisons, is_above, with_labels
from tests.bench.report.samples import record

LABEL = "Nearest centroid (pixels)"
UNTRAINED = {
    **{"backbone": "pixels", "backbone_options": {}, "algo_options": {}, "parameters": 0},
    **{"train_examples": 0, "train_episodes": 0, "selected_episode": 0, "train_seconds": 0.0},
    **{"val_score": None, "meta_batch": 1, "score": 40.0, "ci95": 0.9},
}


def floor(**changes):
    return record("nearest", **(UNTRAINED | changes))


def some(*more):
    trained = [record(algo, seed=seed) for algo in ("maml", "protonet") for seed in (0, 1)]
    return [*trained, *(more or [floor()])]


def episodes_of(records):
    """Episodes around each accuracy, in which the records differ."""
    luck = np.random.default_rng(0)
    return {
        row["cell"]: pd.DataFrame({"score": row["score"] + luck.normal(0, 5, 1000)})
        for row in records
    }


@pytest.mark.parametrize("fields", [SCORE, ALL_FACTS, THROUGHPUT])
def test_it_joins_each_comparison_of_its_episodes_whatever_was_trained(fields):
    other = record("maml", train_examples=999, backbone="resnet12", device="cuda", tuning="9 trials",
                   cell="another", threads=9)  # fmt: skip
    found = comparisons(with_labels([*some(), other]), fields)
    assert len(found) == 2
    for comparison in found:
        assert [row["label"] for row in comparison.floors_at("5-way 1-shot")] == [LABEL]
        assert LABEL not in comparison.labels


def test_it_joins_no_comparison_of_other_episodes():
    elsewhere = floor(shots=5, cell="elsewhere")
    one, alone = comparisons(with_labels(some(elsewhere)), SCORE)
    assert not one.floors and one.labels == ["MAML", "ProtoNet"]
    assert alone.labels == [LABEL] and not alone.floors


def test_one_that_failed_is_no_floor():
    failed = floor(status="failed", reason="no luck")
    one, other = comparisons(with_labels(some(failed)), SCORE)
    assert not one.floors and other.at("Nearest centroid", "5-way 1-shot", "failed")


def test_a_learner_is_above_it_where_the_differences_say_so():
    luck = np.random.default_rng(0)
    low = 40 + luck.normal(0, 10, 400)
    base = floor(scores=low, score=low.mean())

    def learner(points, noise, seeds):
        runs = [low + points + luck.normal(0, noise, 400) for _ in range(seeds)]
        return [record(scores=run, score=run.mean(), seed=s) for s, run in enumerate(runs)]

    assert is_above(learner(1, 1, 1), base), "by far less than the interval of each"
    assert not is_above(learner(0, 1, 1), base) and not is_above(learner(-9, 1, 1), base)
    assert is_above(learner(5, 1, 3), base) and not is_above(learner(-5, 1, 3), base)
    apart = learner(0, 1, 2)
    apart[0]["scores"] = apart[0]["scores"] + 20  # seeds that differ by so much
    assert not is_above(apart, base)
    assert is_above([record(score=45.0, ci95=4.0)], floor())
    assert not is_above([record(score=45.0, ci95=6.0)], floor())


def test_tables_have_a_line_for_it_and_chance():
    records = some()
    (table,) = tables.score_tables(records)
    assert table.cells[-1] == [f"*{LABEL}*", "40.0 ± 0.9"]
    assert "chance is 20 % at 5 ways" in table.note and tables.FLOOR_NOTE in table.note
    line = next(x for x in tables.terminal_table(records).splitlines() if "Nearest" in x)
    assert "40.0 ± 0.9" in line and line.split()[-4:] == [tables.ABSENT] * 4, "no speed"
    assert not any("Nearest" in row for t in tables.throughput_tables(records) for row in t.cells)


def test_tables_of_texts_begin_with_it():
    records = [row | {"examples": "texts"} for row in some()]
    (table,) = tables.score_tables(records)
    assert [line[0] for line in table.cells] == [f"*{LABEL}*", "MAML", "ProtoNet"]
    lines = [x for x in tables.terminal_table(records).splitlines() if "5-way 1-shot" in x]
    assert [line.split()[0] for line in lines] == ["Nearest", "MAML", "ProtoNet"]
    (board,) = leaderboards(records, episodes_of(records))
    assert tables.standing_table(board).cells[0][:2] == [LABEL, "floor"]


def test_leaderboards_have_it_without_a_rank_and_out_of_all_pairs():
    records = some()
    (board,) = leaderboards(records, episodes_of(records))
    assert [entry.label for entry in board.floors] == [LABEL]
    assert {entry.label for entry in board.standings} == {"MAML", "ProtoNet"}
    assert len(board.pairs) == 1 and LABEL not in str(pairs_table([board]).to_dict())
    line = tables.standing_table(board).cells[-1]
    assert line[:2] == [LABEL, "floor"] and line[6] == tables.ABSENT
    stored = standings_table([board]).iloc[-1]
    assert (stored["rank"], stored["algo"], stored["seeds"]) == ("floor", "nearest", 1)
    assert tables.at_the_floor(board) == ""


def test_a_leader_that_is_no_better_is_said_to_be():
    records = [record("maml", score=40.1), floor()]
    (board,) = leaderboards(records, episodes_of(records))
    said = f"Not above the floor, {LABEL}, by more than its interval: MAML."
    assert tables.standing_table(board).note == said
    assert said in tables.winners([board])
    (answer,) = [page.answer(board, with_labels(records))]
    assert any(said in remark for remark in answer.remarks)
    (table,) = tables.score_tables(records)
    assert "Not above the floor by more than the interval at 5-way 1-shot: MAML." in table.note


def test_the_page_counts_and_misses_learners_alone():
    records = some()
    assert page.subtitle(with_labels(records)).startswith(
        "2 learners on omniglot, 5-way 1-shot, 2 seeds"
    )
    assert not page.missing(records), "it has no seed 1"
    assert not rows.incompatibilities(records)
    (comparison,) = comparisons(with_labels(rows.merge_across(records, ["train_examples"])), SCORE)
    assert comparison.labels == ["MAML", "ProtoNet"]
    assert comparison.floors[0]["label"] == LABEL


def test_figures_draw_it_as_a_line():
    records = some(floor(), record("maml", shots=5), floor(shots=5, cell="of five"))
    figure = scores(records)
    line = figure.panels[0].legend[f"floor: {LABEL}"]
    assert {40.0} == {y for y in line.y if y == y} and line.hover[0] == f"{LABEL}, a floor\n40.0 %"
    boards = leaderboards(records, episodes_of(records))
    figure = ranking(boards)
    assert figure.panels[0].legend[LABEL].x == 2 * [boards[0].floors[0].score]
    assert LABEL in figure.note


def test_floors_of_several_options_are_rows_of_their_own_whatever_their_seeds():
    """Neither pooled as seeds of one floor, nor one hidden behind the other."""
    hog = {"backbone": "hog", "algo_options": {"neighbors": 1}}
    floors = [
        floor(cell="one", **hog),
        floor(cell="other", seed=1, **hog | {"algo_options": {"neighbors": 7}}),
        floor(cell="small", **hog | {"backbone_options": {"size": 32}}),
    ]
    (comparison,) = comparisons(with_labels(some(*floors)), SCORE)
    labels = [row["label"] for row in comparison.floors_at("5-way 1-shot")]
    assert len(set(labels)) == 3 and all("hog" in label for label in labels)
    assert any("neighbors 7" in label for label in labels)
    assert any("size 32" in label for label in labels)
