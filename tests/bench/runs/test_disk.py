"""Disks that are full, folders that vanish, clocks that jump."""

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.core import atomic
from bench.core.errors import StorageError, UserError
from bench.engine import train
from bench.runs import checkpoint, run
from bench.runs.store import Store
from bench.sweep.job import run as attempt
from tests.bench.small import SMALL

ROOT = Path(__file__).parents[3]
QUICK = ["train.examples=1500", "validation.times=3"]


@pytest.fixture
def full(monkeypatch):
    """A disk on which files can be made and not filled, while ``full.on``."""

    class Disk:
        on = True

    fsync = os.fsync

    def refuse(handle: int) -> None:
        if Disk.on:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse)
    return Disk


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if not path.name.endswith(".lock")}


def test_a_full_disk_is_found_before_any_work(full, tmp_path):
    with pytest.raises(UserError, match=r"Cannot write results to .* \(No space left on device\)"):
        Store(tmp_path).check_writable()


def test_training_goes_on_while_it_cannot_be_saved(make, full, monkeypatch, capsys):
    monkeypatch.setattr(train, "MAX_SECONDS_BETWEEN_PAUSES", -1.0)
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", -1.0)
    cell = make(*QUICK)
    evaluate = run.evaluate

    def later(*arguments):
        full.on = False  # room has come when the first validation is done
        return evaluate(*arguments)

    monkeypatch.setattr(run, "evaluate", later)
    assert run.run(cell)["status"] == "done"
    said = capsys.readouterr().err
    assert f"{cell.name} could not be saved (No space left on device)" in said


def test_results_that_cannot_be_kept_end_the_command_and_harm_nothing(make, full, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", -1.0)
    full.on = False
    cell = make(*QUICK)
    measure = run.measure

    def fill(*arguments):
        full.on = True
        return measure(*arguments)

    monkeypatch.setattr(run, "measure", fill)
    with pytest.raises(
        StorageError, match="No space left on device.*it resumes from what was saved"
    ):
        attempt(cell)
    assert StorageError.status == os.EX_IOERR
    assert names(cell.store.runs) == {cell.name, "checkpoint.pt"}, "nothing half written"
    full.on = False
    monkeypatch.setattr(run, "measure", measure)
    assert attempt(cell)["status"] == "done"


def test_a_write_to_a_full_disk_leaves_what_was_there(full, tmp_path):
    full.on = False
    atomic.atomic_write(tmp_path / "a", "before")
    full.on = True
    with pytest.raises(OSError, match="No space left"):
        atomic.atomic_write(tmp_path / "a", "after")
    assert names(tmp_path) == {"a"} and (tmp_path / "a").read_text() == "before"


@pytest.mark.slow
def test_the_command_on_a_disk_that_takes_little(tmp_path, cache):
    """A real limit: the system lets no file of this process grow beyond some kilobytes."""
    results = tmp_path / "results"
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", sys.executable, "-m", "bench", *SMALL,
         "backbone.filters=12", f"results_dir={results}", f"cache_dir={cache}"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == os.EX_IOERR, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("error: Cannot write the results of protonet-glyphs-5w1s-seed0-")
    assert "(File too large)" in said and "Traceback" not in done.stderr
    assert not list(results.rglob("record.json")) and not list(results.rglob(".checkpoint*"))


def test_a_folder_that_vanishes_is_made_anew(make, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", -1.0)
    cell = make(*QUICK)
    with cell.store.claim(cell.name):
        evaluate = run.evaluate

        def vanish(*arguments):
            shutil.rmtree(cell.store.root)
            return evaluate(*arguments)

        monkeypatch.setattr(run, "evaluate", vanish)
        assert run.run(cell)["status"] == "done"
    assert cell.finished
    shutil.rmtree(cell.store.root)
    with cell.store.claim(cell.name) as mine:
        assert mine


def test_clocks_that_jump_change_nothing(make, monkeypatch, tmp_path):
    """The time of day only dates a record: what is measured is measured by clocks that do not jump."""
    one, other = (make(*QUICK, f"results_dir={tmp_path}/{name}") for name in "ab")
    run.run(one)
    dice = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: dice.uniform(0, 4e9))
    monkeypatch.setattr(time, "time_ns", lambda: dice.randrange(4 * 10**18))
    before = time.monotonic()
    record = run.run(other)
    assert 0 < record["train_seconds"] < time.monotonic() - before
    assert all(0 < phase["ms_median"] < 60_000 for phase in record["throughput"])
    history = other.store.history(other.name)
    assert (history["seconds"].diff().dropna() > 0).all()
    weights = load_file(other.store.runs / other.name / "model.safetensors")
    for name, value in load_file(one.store.runs / one.name / "model.safetensors").items():
        assert torch.equal(value, weights[name]), name
