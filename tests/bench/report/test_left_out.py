"""One bad file of a run is left out with a warning that names it; the report is made of the rest."""

import json
import os
import shutil

import pandas as pd
import pytest

from bench import report
from bench.runs.store import Store
from tests.bench.report import samples

PROBE = "varied,value,queries,episodes,score,ci95\n"
PROBE += "".join(f"steps,{each},15,9,90.5,1.5\n" for each in (1, 2, 5, 10))


@pytest.fixture
def root(tmp_path):
    """Two learners of two seeds, all of them probed."""
    rows = [samples.record(a, seed=s, episodes=9) for a in ("maml", "protonet") for s in (0, 1)]
    samples.folder(tmp_path, rows)
    for row in rows:
        (tmp_path / "runs" / row["cell"] / "probe.csv").write_text(PROBE)
    return tmp_path


def edit(run, **changes):
    path = run / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def fast(run):
    (phase, *others) = json.loads((run / "record.json").read_text())["throughput"]
    edit(run, throughput=[phase | {"tasks_per_s": 1e300}, *others])


def endless(run):
    (run / "record.json").unlink()
    (run / "record.json").symlink_to("/dev/zero")


def pipe(run):
    (run / "episodes.csv").unlink()
    os.mkfifo(run / "episodes.csv")


def piped_configuration(run):
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")


def repeated(run):
    path = run / "history.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")


def tried_twice(run):
    (run / "probe.csv").write_text(PROBE + PROBE.splitlines()[-1] + "\n")


def odd_value(run):
    (run / "probe.csv").write_text(PROBE + "steps,many,15,9,90.5,1.5\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (fast, "record.json: its throughput.0.tasks_per_s is '1e+300': it should be less than or"),
        (lambda run: edit(run, train_seconds=1e300), "record.json: its train_seconds is '1e+300'"),
        (lambda run: edit(run, device_name="\x1b[2J"), "its device_name is '\\x1b[2J': "),
        (endless, "record.json: it is not a file"),
        (pipe, "episodes.csv: it is not a file"),
        (piped_configuration, "config.yaml cannot be read: it is not a file"),
        (repeated, "history.csv: its column episodes does not rise from line to line"),
        (tried_twice, "probe.csv: it has a trial twice"),
        (
            odd_value,
            "probe.csv: its column value holds something other than a number of steps, shots or ways",
        ),
    ],
)
def test_a_bad_file_is_left_out_and_named(root, caplog, undrawn, damage, said):
    run = next(root.glob("runs/maml-*"))
    damage(run)
    report.build(root)
    warnings = [each.message for each in caplog.records if said in each.message]
    assert len(warnings) == 1 and run.name in warnings[0]
    assert "ProtoNet" in (root / "report.html").read_text()


def test_free_text_of_a_record_runs_in_no_program(root, undrawn):
    evil = "=cmd|' /C calc'!A0 <script>alert(1)</script> a|b"
    for run in root.glob("runs/*"):
        edit(run, device_name=evil)
    report.build(root)
    assert set(pd.read_csv(root / "accuracy.csv")["device_name"]) == {f"'{evil}"}
    for view in ("accuracy.md", "throughput.md", "report.html"):
        assert "<script>alert" not in (root / view).read_text(), view
    assert "&lt;script>alert(1)&lt;/script>" in (root / "throughput.md").read_text()


def test_a_file_that_is_too_large_is_not_read(root, caplog, monkeypatch):
    monkeypatch.setattr("bench.runs.store.MOST_TABLE_BYTES", 100)
    with pytest.raises(ValueError, match="bytes, and 100 are the most"):
        Store(root).episodes(next(root.glob("runs/maml-*")).name)


def test_seeds_are_compared_at_what_all_of_them_were_tried_at(root, undrawn):
    """As where a line of one is missing, or it was probed in another way."""
    run = next(root.glob("runs/maml-*"))
    (run / "probe.csv").write_text("".join(PROBE.splitlines(keepends=True)[:-1]))
    other = next(root.glob("runs/protonet-*"))
    (other / "probe.csv").write_text(PROBE.replace("steps,", "shots,"))
    report.build(root)
    assert len(pd.read_csv(root / "probe.csv")) == 3 + 3 * 4


def test_a_run_that_is_there_twice_does_not_end_the_report(root, undrawn):
    run = next(root.glob("runs/maml-*"))
    copy = run.with_name(f"copy-{run.name}")
    shutil.copytree(run, copy)
    edit(copy, cell=copy.name)
    report.build(root)
