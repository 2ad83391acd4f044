"""Rows of different protocols: kept apart, or compared on request with the difference named."""

import pytest

from bench.core.errors import UserError
from bench.report import build
from bench.report.command import _parse, main
from bench.report.rows import (
    ACROSS,
    SCORE,
    comparisons,
    incompatibilities,
    merge_across,
    with_labels,
)
from tests.bench.report.samples import folder, record

SHORT = record("maml", seed=0)
LONG = record("protonet", seed=0, train_examples=400_000)


def test_rows_of_two_protocols_are_kept_apart_with_a_reason() -> None:
    titles = [c.title for c in comparisons(with_labels([SHORT, LONG]), SCORE)]
    assert titles == ["omniglot, train examples 200000", "omniglot, train examples 400000"]
    assert incompatibilities([LONG, SHORT]) == [
        "Rows of omniglot are kept apart where they differ in train_examples (200000, 400000). "
        "To compare them all the same: python -m bench.report across=train_examples"
    ]
    assert incompatibilities([SHORT, record("protonet")]) == []
    assert incompatibilities([SHORT, record("protonet", dataset="glyphs", train_examples=1)]) == []


def test_on_request_they_are_compared_and_the_difference_is_in_their_names() -> None:
    rows = merge_across([SHORT, LONG], ["train_examples"])
    (comparison,) = comparisons(with_labels(rows), SCORE)
    assert comparison.labels == ["MAML (train examples 200000)", "ProtoNet (train examples 400000)"]
    assert rows[0]["train_examples"] == "200000 or 400000"
    assert SHORT["train_examples"] == 200_000, "the rows given are left alone"
    assert incompatibilities(rows) == []


def test_facts_that_agree_are_in_no_name() -> None:
    rows = merge_across([SHORT, record("protonet")], ["train_examples", "backbone_options"])
    assert [row["label"] for row in with_labels(rows)] == ["MAML", "ProtoNet"]


def test_other_data_or_another_number_of_episodes_is_never_compared() -> None:
    other = record("protonet", data_digest="ffff", episodes_digest="eeee")
    (sentence,) = incompatibilities([SHORT, other])
    assert "data_digest" in sentence and "across" not in sentence
    assert not {"data_digest", "episodes"} & set(ACROSS)
    for fact in ("data_digest", "speed"):
        with pytest.raises(UserError, match=f"across={fact} is not possible"):
            _parse([f"across={fact}"])


def test_the_whole_report_across(tmp_path, capsys, undrawn) -> None:
    build(folder(tmp_path, [SHORT, LONG]))
    board = (tmp_path / "leaderboard.md").read_text()
    assert "### omniglot, train examples 400000, 5-way 1-shot" in board and "| Pair" not in board
    stored = (tmp_path / "accuracy.csv").read_text()

    assert main([f"results_dir={tmp_path}", "across=train_examples"]) == 0
    board = (tmp_path / "leaderboard.md").read_text()
    assert "ProtoNet (train examples 400000)" in board and "| Pair" in board
    assert "train examples 200000 or 400000" in (tmp_path / "accuracy.md").read_text()
    assert (tmp_path / "accuracy.csv").read_text() == stored, "the stored values"
    assert "kept apart" not in capsys.readouterr().out

    assert main([f"results_dir={tmp_path}"]) == 0
    assert "kept apart where they differ in train_examples" in capsys.readouterr().out


def test_rows_of_two_versions_of_the_code_are_kept_apart() -> None:
    rows = [record("maml", code="aaaaaaaaaaaa"), record("protonet", code="bbbbbbbbbbbb")]
    found = comparisons(with_labels(rows), SCORE)
    titles = sorted(each.title for each in found)
    assert titles == ["omniglot, code aaaaaaaa", "omniglot, code bbbbbbbb"]
    (sentence,) = incompatibilities(rows)
    assert "across=code" in sentence
    (together,) = comparisons(with_labels(merge_across(rows, ["code"])), SCORE)
    assert together.labels[0] == "MAML (code aaaaaaaa)"


def test_a_margin_is_points_of_accuracy() -> None:
    assert _parse(["margin=0.5"])[2] == 0.5 and _parse([])[2] == 1
    for wrong in ("0", "-1", "nan", "much"):
        with pytest.raises(UserError, match=f"margin={wrong} is no margin"):
            _parse([f"margin={wrong}"])
