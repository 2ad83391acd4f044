"""``python -m tests.lost``: kill a training at random moments, and measure how much work is lost.

One cell is trained in its own process, which repeatedly gets SIGKILL after a random time and is
restarted. The work between the last save and the kill is lost. `bench.sweep.plan.schedule`
simulates the same kills of a training with the longest save interval that `bench.runs.checkpoint`
and `bench.engine.train` allow. The exit status is 1 if a kill lost more than that interval, or lost
what was saved before.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from bench.engine.train import MAX_SECONDS_BETWEEN_PAUSES
from bench.runs.checkpoint import SAVE_SECONDS
from bench.sweep.plan.schedule import Job, simulate
from tests.faults import ROOT, SMALL

LONG = ["algo=maml", "train.images=50000000", "validation.times=1500", "validation.episodes=30"]


def main() -> int:
    """Run the campaign and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="how many (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    parser.add_argument("--mean", type=float, default=30.0, help="seconds before a kill (30)")
    parser.add_argument(
        "--pause", type=float, default=5.0, help="a step and a validation, at most (5)"
    )
    given = parser.parse_args()
    dice = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        found = [killed(Path(folder), dice.expovariate(1 / given.mean)) for _ in range(given.kills)]
    lost, starts, steps = zip(*found, strict=True)
    worst = SAVE_SECONDS + MAX_SECONDS_BETWEEN_PAUSES + given.pause
    job = Job(given.kills * given.mean, 0)
    lucks = [simulate([[job]], 1, 1 / given.mean, worst, 0, luck) for luck in range(1000)]
    simulated = sum(luck.lost for luck in lucks) / sum(luck.failures for luck in lucks)
    print(
        f"{given.kills} kills of a training, {given.mean:g} s after its start on average: lost were "
        f"{statistics.fmean(lost):.1f} s of work a kill, {max(lost):.1f} s at most; simulated, with "
        f"{worst:g} s between saves, {simulated:.1f} s. Training began {statistics.median(starts):.1f} s "
        f"after its process (median), {max(starts):.1f} s at most."
    )
    if list(steps) != sorted(steps):
        print(f"What was saved fell back: to the steps {steps}.")
    elif max(lost) > worst:
        print(f"A kill lost more than {worst:g} s.")
    else:
        return 0
    return 1


def killed(root: Path, seconds: float) -> tuple[float, float, int]:
    """Train until a kill `seconds` after training began.

    Returns:
        The seconds of work lost, the seconds of start-up, and the saved step.
    """
    before = time.time()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "bench", *SMALL, *LONG, f"results_dir={root}/results",
         f"cache_dir={root}/cache"],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr
    process.stderr.read(1)  # the progress bar appears: training begins
    began = time.time()
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    now = time.time()
    process.wait()
    saved = list(root.glob("results/runs/*/checkpoint.pt"))
    if not saved:
        return now - began, began - before, 0
    step = torch.load(saved[0], weights_only=True)["training"]["loop"]["step"]
    return now - max(began, saved[0].stat().st_mtime), began - before, step


if __name__ == "__main__":
    sys.exit(main())
