"""The report of a results folder: what is written, what is skipped, what the command says."""

import io
import json
import logging
import math
import os
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest

from bench import report
from bench.core.errors import UserError
from bench.report import build
from bench.report.command import main
from bench.report.figures.description import Figure
from tests.bench.report.samples import Row, curve, failed, folder, record
from tests.bench.report.test_shifts import elsewhere
from tests.bench.report.test_trials import STATISTICS, tried

ROOT = Path(__file__).parents[3]
FIGURES = [
    "accuracy",
    "learning_curves_episodes",
    "learning_curves_seconds",
    "throughput",
    "score_throughput",
    "ranking",
    "pairs",
]
VIEWS = ["accuracy", "throughput", "leaderboard", "claimed"]
NAMES = (
    [f"{view}.{kind}" for view in VIEWS for kind in ("csv", "md", "tex")]
    + ["report.html", "pairs.csv", "time_to_accuracy.md"]
    + [f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")]
)


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.report", *arguments],
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, where these do not matter."""
    monkeypatch.setattr(report, "figures", lambda *_: defaultdict(lambda: Figure([])))


@pytest.mark.slow
def test_command_writes_all_and_again_the_same_bytes(tmp_path: Path) -> None:
    rows = [record("maml"), record("learn2learn/maml"), failed("protonet")]
    folder(tmp_path / "results", rows)
    first = command(cwd=tmp_path, PYTHONHASHSEED="1")
    assert (first.returncode, first.stderr) == (0, "")
    assert "learn2learn/maml" in first.stdout and "score_throughput.pdf" in first.stdout
    before = {name: (tmp_path / "results" / name).read_bytes() for name in NAMES}
    assert all(before.values())
    assert str(tmp_path).encode() not in b"".join(before.values())

    # The second time in this process, and from cells that were written in another order.
    folder(tmp_path / "again", rows[::-1])
    paths = build(tmp_path / "again").paths
    assert {str(path.relative_to(tmp_path / "again")) for path in paths} == set(NAMES)
    assert {name: (tmp_path / "again" / name).read_bytes() for name in NAMES} == before


def all_kinds() -> list[Row]:
    """Settings, seeds, protocols, meta-batches, another data set and failures: all that is sorted."""
    rows = [
        *(record(a, 5, k, seed) for a in ("protonet", "maml") for k in (5, 1) for seed in (1, 0)),
        *(record(meta_batch=4, seed=seed, cell=f"four-{seed}") for seed in (1, 0)),
        record("learn2learn/maml"),
        record("protonet", backbone="mlp", cell="mlp"),
        record("b", dataset="x", transductive=True),
        record("a", dataset="x"),
        failed("protonet", ways=20),
        failed("reptile"),
    ]
    return [row | {"episodes": 60} if row["status"] == "done" else row for row in rows]


def test_the_order_in_which_rows_are_read_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = all_kinds()
    folder(tmp_path, rows)
    for row in rows:
        if row["status"] == "done" and row["algo"] in ("maml", "protonet"):
            trials = tried(row, STATISTICS)
            trials.to_csv(tmp_path / "runs" / row["cell"] / "probe.csv", index=False)
            tests = elsewhere({"glyphs": 60.0})
            tests.to_csv(tmp_path / "runs" / row["cell"] / "shift.csv", index=False)
    monkeypatch.setattr(report, "image", lambda figure, kind: repr(figure).encode())
    before = {path: path.read_bytes() for path in build(tmp_path).paths}
    wanted = {
        f"figures/{name}.png" for name in (*FIGURES, "throughput_meta_batch", "adaptation", "shift")
    }
    wanted |= {"report.html", "saturation.md", "probe.csv", "transduction.tex", "pairs.csv"}
    assert wanted <= {str(path.relative_to(tmp_path)) for path in before}

    stored, stores = report.read(tmp_path)
    shuffled = random.Random(0).sample(stored, len(stored))
    monkeypatch.setattr(report, "read", lambda *folders: (shuffled, stores))
    after = {path: path.read_bytes() for path in build(tmp_path).paths}
    assert [
        path.name for path in before.keys() | after if before.get(path) != after.get(path)
    ] == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["results_dir=nowhere"], "No finished runs under nowhere"),
        ([], "No finished runs under results"),
        (["--fast"], "Cannot read the argument '--fast'"),
        (["results_dir="], "Cannot read the argument 'results_dir='"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {sentence}") and printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_process_ends_with_status_2(tmp_path: Path) -> None:
    ended = command("results_dir=nowhere", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1 and "Traceback" not in ended.stderr


def test_what_has_nothing_to_show_any_more_goes(undrawn: None, tmp_path: Path) -> None:
    sizes = [record(meta_batch=size, cell=f"maml{size}") for size in (1, 4)]
    folder(tmp_path, sizes)
    names = {"saturation.md", "figures/throughput_meta_batch.png"}
    assert names <= {str(path.relative_to(tmp_path)) for path in build(tmp_path).paths}
    shutil.rmtree(tmp_path / "runs" / "maml4")
    build(tmp_path)
    assert not any((tmp_path / name).exists() for name in names)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "results_dir=DIR" in capsys.readouterr().out


def test_only_failed_cells(tmp_path: Path) -> None:
    folder(tmp_path, [failed("maml")])
    with pytest.raises(
        UserError, match=r"No finished runs under .*runs \(1 failed\); run python -m"
    ):
        build(tmp_path)


def test_a_folder_that_cannot_be_written(quick: None, tmp_path: Path) -> None:
    folder(tmp_path, [record("maml")])
    (tmp_path / "figures").write_text("not a folder")
    with pytest.raises(UserError, match="Cannot write the report to"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it does not exist"),
        ("{", "Expecting property name"),
        ("[1]", "its status is neither done nor failed"),
        ('{"status": "half", "cell": "bad"}', "its status is neither done nor failed"),
        ('{"status": "done", "cell": "bad"}', "it has no schema"),
        (json.dumps(record(cell="bad", seed="0")), "its seed is '0': it should be a valid integer"),
        (json.dumps(record(cell="bad", score=math.nan)), "its score is 'nan': it should be"),
        (json.dumps(record(cell="other")), "it is that of other"),
    ],
)
def test_a_damaged_record_is_skipped(
    content: str | None, reason: str, quick: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path, [record("maml")])
    bad = tmp_path / "runs" / "bad"
    bad.mkdir()
    if content is not None:
        (bad / "record.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        build(tmp_path)
    (message,) = caplog.messages
    assert str(bad / "record.json") in message and reason in message and "\n" not in message
    assert len((tmp_path / "accuracy.csv").read_text().splitlines()) == 2


def test_facts_of_newer_versions_are_kept_whatever_they_are(tmp_path: Path) -> None:
    facts = {"new": 2**63, "newer": [1, {"a": None}], "": 1e308, "newest": "a,b\n"}
    folder(tmp_path, [record("maml", **facts), record("protonet", new=0.5)])
    found = report.texts(report.gather(tmp_path))["accuracy.csv"]
    assert found is not None
    read = pd.read_csv(io.StringIO(found)).query("algo == 'maml'").iloc[0]
    assert int(read["new"]) == 2**63 and read["newest"] == "a,b\n"
    assert json.loads(read["newer"]) == [1, {"a": None}]


@pytest.mark.parametrize("content", [None, "", "episodes,seconds\n1,2\n", '"\n1,2', "a\x00b\n"])
def test_a_damaged_history_is_left_out_of_the_curves(
    content: str | None, quick: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [record("maml"), record("protonet")]
    folder(tmp_path, rows)
    path = tmp_path / "runs" / rows[0]["cell"] / "history.csv"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with caplog.at_level(logging.WARNING):
        build(tmp_path)
    (message,) = caplog.messages
    assert str(path) in message and "\n" not in message
    assert "| MAML |" in (tmp_path / "accuracy.md").read_text()


def test_figures_that_lost_their_data_go(undrawn: None, tmp_path: Path) -> None:
    row = record("maml")
    folder(tmp_path, [row])
    build(tmp_path)
    assert (tmp_path / "figures" / "learning_curves_seconds.png").exists()
    path = tmp_path / "runs" / row["cell"] / "history.csv"
    curve(row).iloc[:0].to_csv(path, index=False)
    build(tmp_path)
    assert not (tmp_path / "figures" / "learning_curves_seconds.png").exists()
    assert (tmp_path / "figures" / "accuracy.png").exists()


def test_folders_of_several_machines_are_reported_as_one(quick, tmp_path, capsys):
    both, once = record("maml"), record("reptile")
    here = folder(tmp_path / "here", [both, failed("protonet")])
    there = folder(tmp_path / "there, too", [both, once, record("protonet")])
    new = tmp_path / "new"
    # a folder whose name has a comma is one that is there; in a list, it is a path by another name
    (tmp_path / "there").symlink_to(there)
    assert main([f"results_dir={new},{here},{tmp_path / 'there'}"]) == 0
    accuracy = pd.read_csv(new / "accuracy.csv")
    assert sorted(accuracy["algo"]) == ["maml", "protonet", "reptile"]
    assert set(accuracy["status"]) == {"done"}, "what failed on one machine was finished on another"
    assert main([f"results_dir={there}"]) == 0

    for key in ("score", "loss", "val_score"):
        other = folder(tmp_path / key, [record("maml", **{key: both.get(key, 0) + 1})])
        capsys.readouterr()
        assert main([f"results_dir={here},{other}"]) == 2
        said = capsys.readouterr().err
        assert f"{both['cell']} is in {here} and in {other} with different results ({key}" in said
    assert main([f"results_dir={here},{tmp_path / 'nowhere'}"]) == 2
    assert "There are no runs in" in capsys.readouterr().err
