import json
import os
import stat
from pathlib import Path

import pytest

from bench import files, migrate
from bench.files import write_whole
from bench.mistake import Mistake
from bench.store import Store
from tests.bench.report.samples import curve, record


def test_what_is_written_is_read(tmp_path: Path):
    store = Store(tmp_path / "deep" / "results")
    store.check_writable()
    assert store.record("cell") is None
    row = record(cell="cell", device_name="é")
    store.write("cell", {"record.json": json.dumps(row), "history.csv": curve(row).to_csv()})
    assert store.record("cell") == migrate.record(row)
    assert store.history("cell")["val_ci95"].iloc[0] == 1.5


def test_the_record_comes_last(tmp_path: Path, monkeypatch):
    order: list[str] = []
    monkeypatch.setattr("bench.store.write_whole", lambda path, _: order.append(path.name))
    Store(tmp_path).write("cell", {"record.json": "{}", "zzz": "", "aaa": ""})
    assert order[-1] == "record.json"
    assert set(order) == {"record.json", "zzz", "aaa"}


def test_what_killed_processes_left_half_written_goes(tmp_path: Path):
    store = Store(tmp_path)
    store.save_progress("cell", b"state")
    (tmp_path / "runs" / "cell" / ".progress.pt.x1y2").write_bytes(b"sta")
    folder = store.write("cell", {"record.json": "{}"})
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~files._umask()

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written_is_a_mistake(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Mistake, match="Cannot write results to .*results_dir="):
        Store(tmp_path / "file").check_writable()
