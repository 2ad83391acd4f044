"""Standings and pairs: ties, ranks, refusals, and what the report says of them."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report import build, leaderboard, page, read, tables
from bench.report.figures.pairs import matrix
from bench.report.figures.ranking import ranking, ties
from bench.report.leaderboard import Leaderboard, leaderboards
from bench.report.rows import by_metric
from bench.stats import intervals
from bench.tasks.regression.domain import Regression
from tests.bench.report.samples import ACCURACY, Row, episodes, failed, folder, record

DIFFICULTY = np.random.default_rng(0).normal(0, 8, 600)
"""What makes the same episodes easy or hard for all learners."""


def row(algo: str, mean: float, **changes: object) -> Row:
    return record(algo, score=mean, episodes=600, **changes)


def played(rows: list[Row], noise: float = 3.0) -> dict[str, pd.DataFrame]:
    """Test episodes of the rows: their mean, the common difficulty and some luck."""
    found = {}
    for number, each in enumerate(row for row in rows if row["status"] == "done"):
        luck = np.random.default_rng(number).normal(0, noise, 600)
        values = each["score"] + (DIFFICULTY - DIFFICULTY.mean()) + (luck - luck.mean())
        found[each["cell"]] = episodes(each).assign(score=values)
    return found


def board(rows: list[Row], noise: float = 3.0) -> Leaderboard:
    (made,) = leaderboards(rows, played(rows, noise))
    return made


def trained(algo: str, mean: float, spread: float = 0.2, **changes: object) -> list[Row]:
    """Three seeds whose accuracies are so far apart."""
    return [row(algo, mean + spread * (s - 1), seed=s, **changes) for s in range(3)]


MEANS = {"maml": 92, "reptile": 84, "protonet": 95.2, "metaoptnet": 95.1}
ONE_SEED = [row(algo, mean) for algo, mean in MEANS.items()]
FOUR = [each for algo, mean in MEANS.items() for each in trained(algo, mean)]


def test_intervals_over_classes_are_shown_no_narrower_than_without_them() -> None:
    """With few seeds the quantile may shrink by more than the variance grows."""
    made = board(FOUR)
    narrow = dataclasses.replace(
        made,
        standings=[dataclasses.replace(e, ci95_classes=e.half / 2) for e in made.standings],
        pairs=[dataclasses.replace(pair, ci95_classes=2 * pair.half) for pair in made.pairs],
    )
    for entry, cells in zip(made.standings, tables.standing_table(narrow).cells, strict=False):
        assert cells[5] == cells[4] == f"{entry.half:.2f}"
    for pair, cells in zip(made.pairs, tables.pair_table(narrow).cells, strict=True):
        assert cells[4] == f"{2 * pair.half:.2f}"


def test_equivalence_of_one_seed_is_said_to_be_of_models() -> None:
    (pair,) = board([row("protonet", 95.2), row("metaoptnet", 95.1)]).pairs
    assert pair.equivalent and tables.equivalence(pair) == "within 1 (models)"
    (pair,) = board(trained("protonet", 95.2) + trained("metaoptnet", 95.1)).pairs
    assert tables.equivalence(pair) == "within 1"


def test_ranks_know_ties() -> None:
    made = board(FOUR)
    ranks = [(entry.label, entry.rank) for entry in made.standings]
    assert ranks == [("ProtoNet", "1–2"), ("MetaOptNet", "1–2"), ("MAML", "3"), ("Reptile", "4")]
    assert made.winners == ["ProtoNet", "MetaOptNet"]
    assert ties(made) == [(0, 1)]
    said = "Best at omniglot, 5-way 1-shot: ProtoNet, tied with MetaOptNet."
    assert tables.winners([made]).split("\n")[0] == said
    assert "over seeds and episodes" in tables.winners([made])


def test_three_that_tie_are_listed_as_in_a_sentence() -> None:
    algos = ("maml", "protonet", "metaoptnet")
    made = board([each for algo in algos for each in trained(algo, 95)])
    first, second, third = made.winners
    assert f": {first}, tied with {second} and {third}." in tables.winners([made])
    assert tables.listed("abc") == "a, b and c" and tables.listed("a") == "a"


def test_the_note_names_the_margin() -> None:
    for margin in (1, 0.5):
        note = tables.leaderboard_markdown(leaderboards(FOUR, played(FOUR), margin))
        assert f"differ by less than {margin:g} points (% of an error) (two one-sided tests" in note


def test_one_seed_ranks_models_and_calls_no_learner_better() -> None:
    made = board(ONE_SEED)
    ranks = [(entry.label, entry.rank) for entry in made.standings]
    assert ranks[:2] == [("ProtoNet", "model 1–2"), ("MetaOptNet", "model 1–2")]
    assert ranks[2:] == [("MAML", "model 3"), ("Reptile", "model 4")]
    assert made.winners == [] and not any(pair.better for pair in made.pairs)
    assert any(pair.significant for pair in made.pairs), "of the models"
    said = tables.winners([made])
    assert said.startswith(
        "No learner is called best at omniglot, 5-way 1-shot: with one seed, it is"
    )
    assert "ProtoNet and MetaOptNet are not told apart at the top" in said and "seed=0,1,2" in said
    text = tables.leaderboard_markdown([made])
    assert "| ProtoNet / MAML | 3.20 |" in text and "| < 0.001 (models) |" in text
    assert " > " not in text.split(" is better")[0] and "≈" not in text.split(" a tie")[0][:-1]
    cells = matrix(made).texts
    assert cells[0][1:3] == ["(≈ +0.1)", "(+3.2)"]
    assert [entry.short_rank for entry in made.standings] == ["(1–2)", "(1–2)", "(3)", "(4)"]
    assert "of models" in ranking([made]).note and "of models" not in ranking([board(FOUR)]).note


@given(
    means=st.lists(st.floats(60, 99), min_size=2, max_size=4),
    spread=st.floats(0, 5),
    seeds=st.lists(st.integers(1, 4), min_size=4, max_size=4),
    number=st.integers(0, 2**31),
)
@settings(max_examples=30, deadline=None)
def test_nobody_is_better_whose_interval_over_seeds_holds_zero(
    means: list[float], spread: float, seeds: list[int], number: int
) -> None:
    luck = np.random.default_rng(number)
    rows, tested = [], {}
    for algo, mean, count in zip(MEANS, means, seeds, strict=False):
        for seed in range(count):
            each = row(algo, mean, seed=seed)
            centre = mean + spread * luck.normal()
            accuracy = centre + DIFFICULTY[:40] + luck.normal(0, 3, 40)
            rows.append(each)
            tested[each["cell"]] = pd.DataFrame({"score": accuracy})
    (made,) = leaderboards(rows, tested)
    better = {pair.second for pair in made.pairs if pair.better}
    for pair in made.pairs:
        several = {e.label: e.seeds for e in made.standings if e.label in (pair.first, pair.second)}
        assert pair.difference >= 0
        if pair.better:
            assert min(several.values()) > 1 and pair.ci95_seeds_and_episodes is not None
            assert pair.difference > pair.ci95_seeds_and_episodes
        assert (pair.p < 0.05) == (pair.difference > pair.half)
    assert not better & set(made.winners)
    shown = tables.leaderboard_markdown([made])
    for pair in made.pairs:
        assert (f"| {pair.first} > {pair.second} |" in shown) == pair.better


def test_a_single_seed_among_learners_is_out_of_their_order() -> None:
    made = board([*trained("maml", 90), *trained("protonet", 92), row("reptile", 99)])
    ranks = [(entry.label, entry.rank) for entry in made.standings]
    assert ranks == [("ProtoNet", "1"), ("MAML", "2"), ("Reptile", "model 1")]
    assert made.winners == ["ProtoNet"]
    assert tables.winners([made]).split("\n")[0] == (
        "Best at omniglot, 5-way 1-shot: ProtoNet, better than all others of several seeds. Of one "
        "seed, and so not ranked: Reptile. Significantly ahead of ProtoNet as trained models: Reptile."
    )
    assert "Better than the 1 other of several seeds" in page.verdict(made)
    assert "ahead of ProtoNet as trained models: Reptile." in page._unranked(made)
    behind = board([*trained("maml", 90), *trained("protonet", 92), row("reptile", 80)])
    assert "Significantly ahead" not in tables.winners([behind])
    alone = board([*trained("maml", 90), row("reptile", 99)])
    assert [entry.rank for entry in alone.standings] == ["model 1", "model 2"]


def test_what_has_nothing_to_train_is_no_rival_and_needs_no_seeds() -> None:
    made = board([*trained("protonet", 92), row("pixels", 80, parameters=0)])
    assert [(entry.label, entry.rank) for entry in made.standings] == [("ProtoNet", "1")]
    assert [entry.rank for entry in made.floors] == ["floor"]
    assert not made.pairs


def test_ties_need_not_be_transitive() -> None:
    rows = [("maml", 90), ("reptile", 90.3), ("protonet", 90.6)]
    made = board([each for algo, mean in rows for each in trained(algo, mean, 0.12)])
    assert [entry.rank for entry in made.standings] == ["1–2", "1–3", "2–3"]
    assert ties(made) == [(0, 1), (1, 2)]


def test_the_order_is_that_of_ranks_and_need_not_be_that_of_means() -> None:
    """The second by mean is clearly worse than the first, a noisy third is not."""
    rows = [
        *trained("protonet", 95, 0.05),
        *trained("maml", 94.4, 0.05),
        *trained("reptile", 94, 3),
    ]
    made = board(rows, noise=1.0)
    assert [(e.label, e.rank) for e in made.standings] == [
        ("ProtoNet", "1–2"),
        ("Reptile", "1–3"),
        ("MAML", "2–3"),
    ]
    assert made.standings[1].score < made.standings[2].score
    assert "need not be that of means" in tables.leaderboard_markdown([made])


def test_pairs_see_what_intervals_do_not() -> None:
    """One point of difference, hidden by the difficulty that both share."""
    made = board([*trained("maml", 93), *trained("protonet", 94)])
    (pair,) = made.pairs
    first, second = made.standings
    assert first.score - first.ci95_episodes < second.score + second.ci95_episodes
    assert (pair.first, pair.significant, made.winners) == ("ProtoNet", True, ["ProtoNet"])
    assert pair.difference == pytest.approx(1)
    assert pair.half < 0.8 and pair.ci95_episodes < 0.5 < first.ci95_episodes
    assert "ProtoNet, better than all others.\n" in tables.winners([made])


def test_pairs_are_those_of_the_statistics() -> None:
    made = board(FOUR)
    tested = [each["score"].to_numpy() for each in played(FOUR).values()]
    a, b = np.array(tested[6:9]), np.array(tested[:3])
    pair = next(p for p in made.pairs if (p.first, p.second) == ("ProtoNet", "MAML"))
    assert len(made.pairs) == 6
    found = intervals.estimate([a, b], (1, -1))
    assert (pair.difference, pair.half, pair.p) == (found.mean, found.half, found.p)
    assert pair.p_corrected >= pair.p and pair.ci95_seeds_and_episodes == found.half
    spread = intervals.spread_of_runs(a, b)
    assert pair.effect_size == found.mean / spread
    assert pair.effect_low == (found.mean - found.half) / spread
    assert pair.first_better == intervals.superiority(a, b)
    assert pair.effect_high == (found.mean + found.half) / spread
    assert pair.episodes_to_separate == intervals.episodes_to_separate(pair.effect_size)
    models = intervals.estimate([a.mean(0), b.mean(0)], (1, -1))
    assert pair.ci95_episodes == models.half != found.half


@pytest.mark.parametrize("seeds", [1, 2])
def test_standings_are_those_of_the_statistics(seeds: int) -> None:
    rows = [row("maml", 80 + seed, seed=seed) for seed in range(seeds)]
    runs = played(rows)
    (entry,) = board(rows).standings
    tested = np.array([each["score"] for each in runs.values()])
    groups = np.array([x.split() for x in next(iter(runs.values()))["groups"]], dtype=int)
    design = intervals.ClassDesign.of(groups)
    given = tested if seeds > 1 else tested[0]
    assert (entry.score, entry.ci95_episodes) == intervals.mean_ci95(tested.mean(0))
    assert entry.ci95_classes == intervals.estimate([given], classes=design).half
    both = intervals.estimate([given]).half if seeds > 1 else None
    assert entry.ci95_seeds_and_episodes == both


def test_the_groups_of_one_run_are_those_of_all_on_the_same_episodes() -> None:
    rows = [row("maml", 80), row("protonet", 81)]
    runs = played(rows)
    old = {cell: tested.drop(columns="groups") for cell, tested in runs.items()}
    first = rows[0]["cell"]
    (new,), (mixed,), (unknown,) = (
        leaderboards(rows, each) for each in (runs, old | {first: runs[first]}, old)
    )
    assert (new.standings, new.pairs) == (mixed.standings, mixed.pairs)
    assert new.standings[0].ci95_classes and new.pairs[0].ci95_classes
    assert unknown.standings[0].ci95_classes is None is unknown.pairs[0].ci95_classes


def test_both_kinds_of_p_are_corrected_for_all_pairs() -> None:
    """As many as the setting has."""
    made = board(FOUR)
    runs = played(FOUR)
    of = {
        entry.label: [each["score"] for cell, each in runs.items() if cell.startswith(name)]
        for entry in made.standings
        for name in MEANS
        if entry.label.lower() == name
    }
    found = [
        intervals.estimate([np.array(of[p.first]), np.array(of[p.second])], (1, -1))
        for p in made.pairs
    ]
    assert [p.p for p in made.pairs] == [each.p for each in found]
    assert [p.p_corrected for p in made.pairs] == intervals.holm([each.p for each in found])
    beyond = [each.p_beyond(leaderboard.MARGIN) for each in found]
    assert [p.p_beyond for p in made.pairs] == intervals.holm(beyond) != beyond


@pytest.mark.parametrize("margin", [1.0, 0.1])
def test_equivalence_is_told_beside_a_tie(margin: float) -> None:
    (made,) = leaderboards(FOUR, played(FOUR), margin)
    tie, *others = made.pairs
    assert not tie.significant and tie.equivalent == (margin == 1)
    text = tables.leaderboard_markdown([made])
    assert ("| within 1 |" in text) == (margin == 1)
    assert ("| undecided |" in text) == (margin == 0.1)
    assert all(pair.significant and not pair.equivalent for pair in others)


def test_with_many_learners_a_clear_difference_is_still_seen() -> None:
    rows = [
        row("maml", 50 + n, seed=s, algo_options={"n": n}, cell=f"{n} {s}")
        for n in range(33)
        for s in range(2)
    ]
    (made,) = leaderboards(rows, played(rows))
    assert len(made.pairs) == 528
    assert sum(pair.better for pair in made.pairs) > 400
    singles = [each for each in rows if each["seed"] == 0]
    (made,) = leaderboards(singles, played(singles))
    assert sum(pair.significant for pair in made.pairs) > 500


def test_seeds_are_told_from_episodes() -> None:
    rows = [
        row(algo, mean + seed, seed=seed)
        for algo, mean in (("maml", 80), ("protonet", 95))
        for seed in range(3)
    ]
    made = board(rows)
    assert [(entry.seeds, entry.episodes) for entry in made.standings] == [(3, 600)] * 2
    for entry in made.standings:
        assert entry.half == entry.ci95_seeds_and_episodes
        assert entry.ci95_seeds_and_episodes is not None and entry.ci95_classes is not None
        assert 2 < entry.ci95_seeds_and_episodes <= entry.ci95_classes * 1.05
        assert 0.6 < entry.ci95_episodes < 0.8
    assert made.pairs[0].difference == pytest.approx(15)
    assert made.pairs[0].half == made.pairs[0].ci95_seeds_and_episodes > 2
    alone = board([row("maml", 80)]).standings[0]
    assert alone.ci95_seeds_and_episodes is None and alone.half == alone.ci95_episodes


def test_other_protocols_and_other_episodes_are_never_paired() -> None:
    others = [
        row("protonet", 95, train_examples=1),
        row("protonet", 95, queries=5),
        row("protonet", 95, data_digest="another"),
        row("protonet", 95, episodes_digest="another"),
    ]
    for other in others:
        rows = [row("maml", 80), other]
        made = leaderboards(rows, played(rows))
        assert len(made) == 2 and not any(each.pairs for each in made)
        assert len({(each.comparison.title, each.setting) for each in made}) == 2


def test_failed_cells_have_no_place() -> None:
    rows = [row("maml", 80), failed("protonet")]
    assert [entry.label for entry in board(rows).standings] == ["MAML"]


def test_markdown_golden() -> None:
    text = tables.leaderboard_markdown([board(FOUR[6:])])
    lines = text.split("\n")
    assert lines[:4] == [
        "### omniglot, 5-way 1-shot",
        "",
        "| Learner | rank | score | ± episodes | ± seeds and episodes | ± classes | "
        "seeds | episodes | loss | Brier | ECE |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert lines[4].startswith("| ProtoNet | 1–2 | 95.20 | 0.")
    assert lines[4].endswith(" | 0.72 | 0.79 | 1.13 | 3 | 600 | – | – | – |")
    assert lines[7:9] == [
        "| Pair | difference | ± episodes | ± seeds and episodes | ± classes | p | equivalent | "
        "P(better) | effect size | episodes needed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert lines[9].startswith("| ProtoNet ≈ MetaOptNet | 0.10 | 0.19 | 0.4")


def test_csv_has_a_row_a_learner_and_a_row_a_pair() -> None:
    boards = [board(FOUR)]
    standings, pairs = leaderboard.standings_table(boards), leaderboard.pairs_table(boards)
    assert (len(standings), len(pairs)) == (4, 6)
    keys = ["dataset", "ways", "shots", "episodes_digest"]
    assert (
        list(standings.columns[:7])
        == list(pairs.columns[:7])
        == ["comparison", "metric", "setting", *keys]
    )
    assert standings["ci95_seeds_and_episodes"].notna().all()
    cells = tables.score_table(FOUR, ACCURACY)
    joined = (
        standings.assign(cell=standings["cells"].str.split())
        .explode("cell")
        .merge(cells, on="cell")
    )
    assert len(joined) == len(FOUR) and (joined["algo_x"] == joined["algo_y"]).all()
    for key in keys:
        assert (joined[f"{key}_x"] == joined[f"{key}_y"]).all()
    assert set(standings["seed_numbers"]) == {"0 1 2"}
    assert (pairs["first_cells"].str.split().str.len() == 3).all()


@pytest.mark.parametrize("key", ["score", "ci95"])
def test_a_row_edited_by_hand_is_told_and_left_out(
    key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [record("maml"), record("protonet")]
    folder(tmp_path, rows)
    path = tmp_path / "runs" / rows[1]["cell"] / "record.json"
    path.write_text(json.dumps(rows[1] | {key: rows[1][key] + 0.1}))
    with caplog.at_level(logging.WARNING):
        left, _ = read(tmp_path)
    assert f"{path.parent / 'episodes.csv'}: its {key} is " in caplog.text
    assert "one of them was edited; run the cell again" in caplog.text
    assert [each["algo"] for each in left] == ["maml"]


def test_a_run_without_its_episodes_is_told_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [record("maml"), record("protonet"), record("reptile")]
    folder(tmp_path, rows)
    (tmp_path / "runs" / rows[1]["cell"] / "episodes.csv").unlink()
    (tmp_path / "runs" / rows[2]["cell"] / "episodes.csv").write_text("score\n93.0\n")
    with caplog.at_level(logging.WARNING):
        read(tmp_path)
    assert caplog.text.count("Skipped") == 2
    assert "does not hold 1000 scores" in caplog.text


def test_learners_over_all_settings() -> None:
    rows = [*FOUR, *(each for a, m in MEANS.items() for each in trained(a, m - 3, shots=5))]
    made = leaderboards(rows, played(rows))
    (table,) = tables.aggregate_tables(made)
    assert table.title == "omniglot, all 2 settings"
    assert [line[0] for line in table.cells] == ["MAML", "Reptile", "ProtoNet", "MetaOptNet"]
    assert table.cells[0][1] == "3.00 (3.00 to 3.00)" and table.cells[0][3] == "3"
    assert table.cells[0][2].startswith("90.50 (")
    assert table.title in tables.leaderboard_markdown(made)
    assert tables.aggregate_tables([board(FOUR)]) == []


MSE = Regression.metric
ERRORS = {"metric": MSE.model_dump(), "dataset": "sinusoid", "episodes": 600}


def erring(algo: str, error: float, **changes: object) -> list[Row]:
    rows = [record(algo, score=error, seed=s, **ERRORS, **changes) for s in range(3)]
    return [each | {"ways": None, "cell": f"{algo}-sinusoid-1s-{each['seed']}"} for each in rows]


def errors_of(rows: list[Row], outlier: str = "") -> dict[str, pd.DataFrame]:
    """Log-normal errors around each row's, with the difficulty of a task in common."""
    found = {}
    for number, each in enumerate(rows):
        luck = np.random.default_rng(number).normal(0, 0.5, 600)
        values = each["score"] * np.exp(DIFFICULTY / 8 + luck)
        values[300] = 1e14 if each["algo"] == outlier else values[300]
        found[each["cell"]] = pd.DataFrame({"score": values})
    return found


def test_the_smallest_error_is_the_best():
    rows = erring("maml", 0.3) + erring("reptile", 0.6) + erring("r2d2", 0.03)
    (made,) = leaderboards(rows, errors_of(rows))
    assert [entry.label for entry in made.standings] == ["R2D2", "MAML", "Reptile"]
    assert made.winners == ["R2D2"]
    assert all(pair.difference > 0 and pair.better for pair in made.pairs)
    half = next(pair for pair in made.pairs if pair.second == "Reptile" and pair.first == "MAML")
    assert half.difference == pytest.approx(np.log(2), abs=0.1)


def test_one_diverged_task_of_600_ties_nobody():
    rows = erring("maml", 0.3) + erring("r2d2", 0.03)
    (made,) = leaderboards(rows, errors_of(rows, outlier="maml"))
    assert made.winners == ["R2D2"] and made.pairs[0].better
    assert made.standings[1].score > 1e10, "the mean is told as it is"
    rows = erring("maml", 0.3) + erring("r2d2", 0.3)
    (tied,) = leaderboards(rows, errors_of(rows, outlier="maml"))
    assert not tied.pairs[0].better


def test_metrics_are_told_apart_by_name_and_replace_no_other_file(tmp_path: Path) -> None:
    other = MSE.model_dump() | {"name": "accuracy", "label": "another label"}
    odd = MSE.model_dump() | {"name": "pairs"}
    rows = [record("maml"), record("maml", seed=1, metric=other)]
    assert [len(of) for of in by_metric(rows).values()] == [2], "none is lost"
    folder(tmp_path, [record("maml"), record("protonet"), record("maml", seed=1, metric=odd)])
    build(tmp_path)
    assert "p_corrected" in pd.read_csv(tmp_path / "pairs.csv")


def test_a_folder_of_two_kinds_of_tasks_has_a_table_of_each(tmp_path: Path) -> None:
    rows = erring("maml", 0.3) + [record("maml"), record("protonet")]
    folder(tmp_path, rows)
    for cell, tested in errors_of(erring("maml", 0.3)).items():
        row = next(row for row in rows if row["cell"] == cell)
        mean, half = intervals.mean_ci95(tested["score"])
        run = tmp_path / "runs" / cell
        (run / "record.json").write_text(json.dumps(row | {"score": mean, "ci95": half}))
        tested.to_csv(run / "episodes.csv", index=False)
    build(tmp_path)
    assert pd.read_csv(tmp_path / "mse.csv")["dataset"].unique().tolist() == ["sinusoid"]
    assert pd.read_csv(tmp_path / "accuracy.csv")["dataset"].unique().tolist() == ["omniglot"]
    board = pd.read_csv(tmp_path / "leaderboard.csv").set_index("comparison")["metric"]
    assert board["sinusoid"] == "mse" and set(board["omniglot"]) == {"accuracy"}
    assert "### sinusoid, 1-shot" in (tmp_path / "leaderboard.md").read_text()
