import errno
import fcntl
import json
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from bench.core import atomic
from bench.core.atomic import atomic_write
from bench.core.errors import UserError
from bench.runs.store import Store
from tests.bench.report.samples import curve, record


def test_what_is_written_is_read(tmp_path: Path):
    store = Store(tmp_path / "deep" / "results")
    store.check_writable()
    assert store.record("cell") is None
    row = record(cell="cell", device_name="é")
    store.write("cell", {"record.json": json.dumps(row), "history.csv": curve(row).to_csv()})
    assert store.record("cell") == row
    assert store.history("cell")["val_ci95"].iloc[0] == 1.5


def test_the_record_comes_last(tmp_path: Path, monkeypatch):
    order: list[str] = []
    replace = os.replace

    def noted(draft: str, path: Path) -> None:
        order.append(path.name)
        replace(draft, path)

    monkeypatch.setattr(os, "replace", noted)
    Store(tmp_path).write("cell", {"record.json": "{}", "zzz": "", "aaa": ""})
    assert order[-1] == "record.json"
    assert set(order) == {"record.json", "zzz", "aaa"}


@pytest.mark.parametrize("moment", range(9))
def test_a_process_that_is_killed_while_it_overwrites_leaves_a_run_whole_or_unfinished(
    tmp_path: Path, monkeypatch, moment
):
    """It is killed before one of the calls that change the disk, whichever."""
    store = Store(tmp_path)
    old = {"record.json": json.dumps(record(cell="cell")), "episodes.csv": "old", "zzz": "old"}
    store.write("cell", old)
    left = iter(range(moment))

    class Killed(BaseException): ...

    def dying(call):
        def counted(*arguments, **options):
            if next(left, None) is None:
                monkeypatch.undo()
                monkeypatch.setattr(os, "unlink", lambda _: None)  # nothing is tidied up
                raise Killed
            return call(*arguments, **options)

        return counted

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    new = {name: text.replace("old", "new") for name, text in old.items()}
    with suppress(Killed):
        store.write("cell", new)
    monkeypatch.undo()
    found = {(tmp_path / "runs" / "cell" / name).read_text() for name in ("episodes.csv", "zzz")}
    assert store.record("cell") is None or len(found) == 1
    assert found == {"old"} or moment > 3


def test_a_disk_without_locks_is_told(tmp_path: Path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(UserError, match="Cannot lock .*No locks available.* with results_dir="),
        Store(tmp_path).claim("cell"),
    ):
        pass


def test_what_killed_processes_left_half_written_goes(tmp_path: Path):
    store = Store(tmp_path)
    store.save_checkpoint("cell", b"state")
    (tmp_path / "runs" / "cell" / ".checkpoint.pt.x1y2").write_bytes(b"sta")
    folder = store.write("cell", {"record.json": "{}"})
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch):
    path = tmp_path / "file"
    atomic_write(path, "old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~atomic._umask()

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written_is_a_mistake(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write results to .*results_dir="):
        Store(tmp_path / "file").check_writable()
