"""Tuned rows: marked, never ranked with others unless asked for, and with their cost."""

from bench.config.schema import Tuned
from bench.report import build
from bench.report.rows import SCORE, comparisons, incompatibilities, merge_across, with_labels
from bench.report.tables import joined
from bench.report.tuning import tuning_tables
from tests.bench.report.samples import Row, folder, record

TUNED: Row = {
    "study": "maml-omniglot-5w1s-00c0ffee",
    "n_trials": 20,
    "trial_examples": 50_000,
    "n_startup_trials": 6,
    "batch_size": 1,
    "stopped": 7,
    "failed": 1,
    "examples": 812_345,
    "seconds": 4000.0,
    "first": 91.25,
    "best": 94.5,
    "options": {"train.lr": 0.0123456, "algo.inner_steps": 3},
}


def tuned(algo: str = "maml", **changes: object) -> Row:
    options = {"tuning": "20 trials of 50,000 examples", "tuned": TUNED, "lr": 0.0123456}
    return record(algo, **(options | {"algo_options": {"inner_steps": 3}} | changes))


def test_tuned_rows_are_kept_apart_from_others_with_a_reason() -> None:
    rows = [tuned(), record("maml", cell="maml-omniglot-own"), record("protonet")]
    titles = {c.title: c.labels for c in comparisons(with_labels(rows), SCORE)}
    assert titles == {
        "omniglot, tuning 20 trials of 50,000 examples": ["MAML (tuned)"],
        "omniglot, tuning none": ["MAML", "ProtoNet"],
    }
    assert incompatibilities(rows) == [
        "Rows of omniglot are kept apart where they differ in tuning (20 trials of 50,000 examples, "
        "none). "
        "To compare them all the same: python -m bench.report across=tuning"
    ]
    other = tuned("protonet", tuning="40 trials of 50,000 examples")
    assert len(comparisons(with_labels([tuned(), other]), SCORE)) == 2, "another budget"
    assert len(comparisons(with_labels([tuned(), tuned("protonet")]), SCORE)) == 1


def test_a_budget_says_how_was_searched() -> None:
    stored = TUNED | {"options": list(TUNED["options"])}
    full = "20 trials of 50,000 examples with n_startup_trials 6 and batch_size 1"
    assert Tuned.model_validate(stored).budget == full


def test_a_failed_row_stands_with_those_it_belongs_to() -> None:
    failed = record("protonet", status="failed", reason="it was bad")
    one, other = comparisons(with_labels([tuned(), record("reptile"), failed]), SCORE)
    assert (one.labels, other.labels) == (["MAML (tuned)"], ["Reptile", "ProtoNet"])


def test_on_request_they_are_compared_and_the_difference_is_in_their_names() -> None:
    rows = merge_across([tuned(), record("maml", cell="maml-omniglot-own")], ["tuning"])
    (comparison,) = comparisons(with_labels(rows), SCORE)
    assert comparison.labels == ["MAML (tuning 20 trials of 50,000 examples)", "MAML (tuning none)"]


def test_two_studies_of_one_learner_are_two_learners() -> None:
    again = tuned(tuned=TUNED | {"study": "other"}, cell="maml-omniglot-again")
    labels = {row["label"] for row in with_labels([tuned(), again])}
    assert labels == {
        "MAML (tuned, study maml-omniglot-5w1s-00c0ffee)",
        "MAML (tuned, study other)",
    }


def test_the_cost_is_told_once_a_study(tmp_path, undrawn) -> None:
    rows = [tuned(), tuned(seed=1, cell="maml-omniglot-seed1"), record("protonet")]
    text = joined(tuning_tables(rows)) or ""
    line = "| MAML (tuned) | 5-way 1-shot | 20 | 7 | 1 | 812,345 | 1h 07m | 91.2 | 94.5 | "
    assert text.count("| MAML") == 1 and line + "lr 0.0123, inner_steps 3 |" in text
    assert not tuning_tables([record("protonet")])
    build(folder(tmp_path, rows))
    assert line in (tmp_path / "tuning.md").read_text()
    for table in ("accuracy.md", "leaderboard.md"):
        assert "tuning.md tells" in (tmp_path / table).read_text()
    build(folder(tmp_path / "other", [record("protonet")]))
    assert "tuning.md tells" not in (tmp_path / "other" / "leaderboard.md").read_text()
    assert "812,345" in (tmp_path / "report.html").read_text()
