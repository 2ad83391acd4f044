"""Standings and pairs: ties, ranks, refusals, and what the report says of them."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import stats
from bench.report import leaderboard, rankings, read, tables
from bench.report.leaderboard import Leaderboard, leaderboards
from tests.bench.report.samples import Row, episodes, failed, folder, record

DIFFICULTY = np.random.default_rng(0).normal(0, 8, 600)
"""What makes the same episodes easy or hard for all learners."""


def row(algo: str, mean: float, **changes: object) -> Row:
    return record(algo, accuracy=mean, episodes=600, **changes)


def played(rows: list[Row], noise: float = 3.0) -> dict[str, pd.DataFrame]:
    """Test episodes of the rows: their mean, the common difficulty and some luck."""
    found = {}
    for number, each in enumerate(row for row in rows if row["status"] == "done"):
        luck = np.random.default_rng(number).normal(0, noise, 600)
        values = each["accuracy"] + (DIFFICULTY - DIFFICULTY.mean()) + (luck - luck.mean())
        found[each["cell"]] = episodes(each).assign(accuracy=values)
    return found


def board(rows: list[Row], noise: float = 3.0) -> Leaderboard:
    (made,) = leaderboards(rows, played(rows, noise))
    return made


FOUR = [row("maml", 92), row("reptile", 84), row("protonet", 95.2), row("metaoptnet", 95.1)]


def test_ranks_know_ties() -> None:
    made = board(FOUR)
    ranks = [(entry.label, entry.rank) for entry in made.standings]
    assert ranks == [("ProtoNet", "1–2"), ("MetaOptNet", "1–2"), ("MAML", "3"), ("Reptile", "4")]
    assert made.winners == ["ProtoNet", "MetaOptNet"]
    assert rankings.ties(made) == [(0, 1)]
    said = "Best at omniglot, 5-way 1-shot: ProtoNet, tied with MetaOptNet."
    assert tables.winners([made]).split("\n")[0] == said
    assert "paired tests" in tables.winners([made])


def test_ties_need_not_be_transitive() -> None:
    made = board([row("maml", 90), row("reptile", 90.25), row("protonet", 90.5)], noise=2.5)
    assert [entry.rank for entry in made.standings] == ["1–2", "1–3", "2–3"]
    assert rankings.ties(made) == [(0, 1), (1, 2)]


def test_pairs_see_what_intervals_do_not() -> None:
    """One point of difference, hidden by the difficulty that both share."""
    made = board([row("maml", 93), row("protonet", 94)])
    (pair,) = made.pairs
    first, second = made.standings
    assert first.accuracy - first.half_episodes < second.accuracy + second.half_episodes
    assert (pair.first, pair.significant, made.winners) == ("ProtoNet", True, ["ProtoNet"])
    assert pair.difference == pytest.approx(1)
    assert pair.half_episodes < 0.5 < first.half_episodes
    assert "ProtoNet, better than all others.\n" in tables.winners([made])


def test_pairs_are_those_of_the_statistics() -> None:
    made = board(FOUR)
    tested = played(FOUR)
    a, b = (tested[FOUR[i]["cell"]]["accuracy"].to_numpy() for i in (2, 0))
    pair = next(p for p in made.pairs if (p.first, p.second) == ("ProtoNet", "MAML"))
    assert len(made.pairs) == 6
    assert pair.p == stats.sign_flip_p(a - b) and pair.p_corrected >= pair.p
    assert pair.effect_size == stats.effect_size(a - b)
    assert pair.first_better == stats.superiority(a - b)
    assert pair.episodes_to_separate == stats.episodes_to_separate(a - b)


def test_seeds_are_told_from_episodes() -> None:
    rows = [
        row(algo, mean + seed, seed=seed)
        for algo, mean in (("maml", 80), ("protonet", 95))
        for seed in range(3)
    ]
    made = board(rows)
    assert [(entry.seeds, entry.episodes) for entry in made.standings] == [(3, 600)] * 2
    for entry in made.standings:
        assert entry.half_seeds == pytest.approx(stats.half_over_seeds([0.0, 1.0, 2.0]))
        assert entry.half_seeds_and_episodes is not None
        assert entry.half_seeds_and_episodes > max(entry.half_seeds, entry.half_episodes) * 0.99
    assert made.pairs[0].difference == pytest.approx(15)
    alone = board([row("maml", 80)]).standings[0]
    assert (alone.half_seeds, alone.half_seeds_and_episodes) == (None, None)


def test_other_protocols_and_other_episodes_are_never_paired() -> None:
    others = [
        row("protonet", 95, train_images=1),
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
    text = tables.leaderboard_markdown([board(FOUR[2:])])
    lines = text.split("\n")
    assert lines[:4] == [
        "### omniglot, 5-way 1-shot",
        "",
        "| Learner | rank | accuracy | ± episodes | ± classes | ± seeds | ± seeds and episodes | "
        "seeds | episodes | loss | Brier | ECE |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert lines[4].startswith("| ProtoNet | 1–2 | 95.20 | 0.")
    assert lines[4].endswith(" | – | – | 1 | 600 | – | – | – |")
    assert lines[7:9] == [
        "| Pair | difference | ± episodes | ± classes | ± seeds and episodes | p | P(better) | "
        "effect size | episodes needed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert lines[9].startswith("| ProtoNet ≈ MetaOptNet | 0.10 | 0.3")


def test_csv_has_a_row_a_learner_and_a_row_a_pair() -> None:
    boards = [board(FOUR)]
    standings, pairs = leaderboard.standings_table(boards), leaderboard.pairs_table(boards)
    assert (len(standings), len(pairs)) == (4, 6)
    assert list(standings.columns[:5]) == ["comparison", "setting", "label", "best", "worst"]
    assert standings["half_episodes"].notna().all() and standings["half_seeds"].isna().all()


@pytest.mark.parametrize("key", ["accuracy", "ci95"])
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
    (tmp_path / "runs" / rows[2]["cell"] / "episodes.csv").write_text("accuracy\n93.0\n")
    with caplog.at_level(logging.WARNING):
        read(tmp_path)
    assert caplog.text.count("Skipped") == 2
    assert "does not hold 1000 accuracies" in caplog.text
