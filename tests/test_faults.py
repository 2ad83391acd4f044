"""A short form of `tests.faults`, and what a scheduler sees of a run that it ends."""

import random
import signal
import time

from bench.interrupt import RESUMABLE
from tests.faults import SMALL, campaign, started


def test_nothing_is_lost_by_kills(tmp_path, capsys):
    cells = ["algo=protonet", "seed=0,1", "train.images=3000"]
    # SIGKILL for three processes at once, 6 seconds after they started
    lost = campaign(tmp_path, cells, kills=1, dice=random.Random(8), longest=6.3)
    assert lost == [], lost
    assert capsys.readouterr().out.startswith("1 kills of 3 processes in 1 rounds: 1 SIGKILL ")


def test_sigterm_ends_with_a_status_that_says_resume_me(tmp_path):
    endless = ["train.images=100000000", f"results_dir={tmp_path}", f"cache_dir={tmp_path}"]
    process = started("bench", *SMALL, *endless)
    (lock,) = wait_for(lambda: list(tmp_path.glob("runs/.*.lock")))
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == RESUMABLE
    assert lock.exists() and not list(tmp_path.glob("runs/*/record.json"))


def wait_for(found, seconds: float = 60):
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until
        time.sleep(0.1)
    return found()
