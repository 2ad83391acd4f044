"""Runs that were tested on other episodes than they should have been."""

import json

import pandas as pd
import pytest

from bench.report.command import main
from tests.bench.report.samples import folder, record

ROWS = [record("maml"), record("protonet"), record("reptile")]


@pytest.fixture
def results(tmp_path):
    return folder(tmp_path, ROWS)


@pytest.mark.parametrize("column", ["classes", "groups"])
def test_other_episodes_under_the_same_digest_are_left_out(
    results, capsys, caplog, undrawn, column: str
) -> None:
    path = results / "runs" / ROWS[1]["cell"] / "episodes.csv"
    tested = pd.read_csv(path)
    tested[column] = tested[column].sample(frac=1, random_state=0).to_numpy()
    tested.to_csv(path, index=False)
    assert main([f"results_dir={results}"]) == 0
    (message,) = caplog.messages
    assert message == (
        f"Skipped {path}: its test episodes have other {column} than those of {ROWS[0]['cell']}, "
        "though both carry the same digest"
    )
    assert "ProtoNet" not in capsys.readouterr().out


def test_episodes_of_another_digest_are_never_compared(results, capsys, caplog, undrawn) -> None:
    path = results / "runs" / ROWS[1]["cell"] / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"episodes_digest": "0123456789"}))
    assert main([f"results_dir={results}"]) == 0
    said = capsys.readouterr().out
    assert (
        "Rows of omniglot were tested on several lists of episodes, and are never compared with each "
        "other: 5-way 1-shot, episodes 01234567; 5-way 1-shot, episodes 9f0501aa."
    ) in said
    pairs = pd.read_csv(results / "pairs.csv")
    assert list(pairs["setting"]) == ["5-way 1-shot, episodes 9f0501aa"]
    assert not caplog.messages
