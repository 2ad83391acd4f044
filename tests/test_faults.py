"""A short form of the campaign, and what a scheduler sees of a run that it ends."""

import os
import random
import signal
import time
from types import SimpleNamespace

import pytest

from bench.core.signals import RESUMABLE
from tools.campaigns.faults import SMALL, Started, campaign, started, wrong_end


@pytest.mark.slow
def test_nothing_is_lost_by_kills(tmp_path, capsys):
    cells = ["algo=protonet", "seed=0,1", "train.examples=3000"]
    # SIGKILL for three processes at once, 6 seconds after they started
    lost = campaign(tmp_path, cells, kills=1, dice=random.Random(8), longest=6.3)
    assert lost == [], lost
    assert capsys.readouterr().out.startswith("1 kills of 3 processes in 1 rounds: 1 SIGKILL ")


@pytest.mark.slow
def test_sigterm_ends_with_a_status_that_says_resume_me(tmp_path):
    """And what was trained until then is saved, and gone on with by the same command."""
    endless = ["train.examples=100000000", "validation.times=20000"]
    folders = [f"results_dir={tmp_path}", f"cache_dir={tmp_path}"]
    for number, said in enumerate([": validation 1 of", "resumes at step"]):
        log = tmp_path / f"{number}.log"
        run = Started(started("bench", *SMALL, *endless, *folders, log=log), log)
        (cell,) = wait_for(run, said)
        os.killpg(run.process.pid, signal.SIGTERM)
        assert wrong_end(run, signal.SIGTERM, tmp_path) == []
        assert run.process.returncode == RESUMABLE
        assert (tmp_path / "runs" / cell / "checkpoint.pt").exists()
        assert not list(tmp_path.glob("runs/*/record.json"))


@pytest.mark.parametrize(
    ("status", "number", "wrong"),
    [
        (0, None, ""),
        (1, None, "a process ended with 1: cell: validation 1 of 2"),
        (75, None, "a process ended with 75"),
        (0, signal.SIGTERM, ""),
        (-9, signal.SIGKILL, ""),
        (1, signal.SIGKILL, "a process ended with 1"),
        (75, signal.SIGTERM, "cell was trained, and not saved before the end"),
        (130, signal.SIGINT, "cell was trained, and not saved before the end"),
        (75, signal.SIGINT, "a process ended with 75"),
    ],
)
def test_a_process_that_crashes_or_does_not_save_is_told_of(tmp_path, status, number, wrong):
    log = tmp_path / "log"
    log.write_text("cell: validation 1 of 2, 1000 episodes, val 50.0 %")
    found = wrong_end(Started(SimpleNamespace(wait=lambda: status), log), number, tmp_path)
    assert [each[: len(wrong)] for each in found] == [wrong] * bool(wrong)
    (tmp_path / "runs" / "cell").mkdir(parents=True)
    (tmp_path / "runs" / "cell" / "checkpoint.pt").touch()
    beside = wrong_end(Started(SimpleNamespace(wait=lambda: status), log), None, tmp_path, True)
    assert (beside == []) == (status in (0, RESUMABLE)), "it may leave cells to others"
    if "trained" in wrong:
        assert not wrong_end(Started(SimpleNamespace(wait=lambda: status), log), number, tmp_path)


def wait_for(run: Started, said: str) -> set[str]:
    """Wait, however busy the machine is, until a cell of a running process has said this."""
    while not (cells := run.cells(said)):
        assert run.process.poll() is None, run.log.read_text()
        time.sleep(0.1)
    return cells
