"""``python -m tests.launchers joblib ray``: one sweep under several launchers, each killed in the middle.

The sweep runs undisturbed under Hydra's basic launcher. Then each launcher that is named runs it in a
folder of its own; when a third of its cells are finished, the command is killed, at once and alone, and
then repeated. Accuracies, losses, histories and parameters must be those of the basic launcher, to the
bit. With ``--full``, cells have the budget of the defaults: an hour for three launchers on two cores.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import differences, records, started

CELLS = ["algo=maml,reptile,protonet,metaoptnet", "shots=1,5", "seed=0,1,2"]
SMALL = [
    "train.images=1000",
    "backbone.filters=8",
    "validation.times=2",
    "validation.episodes=10",
    "test.episodes=20",
    "throughput.seconds=0.01",
    "device=cpu",
]
LAUNCHERS = {
    "basic": ["threads=1"],
    "joblib": ["launcher=joblib"],
    "ray": ["launcher=ray"],
    "slurm": ["launcher=slurm"],
}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "300"}


def main() -> int:
    """Run the campaign; the status is 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("launchers", nargs="+", choices=list(LAUNCHERS))
    parser.add_argument("--full", action="store_true", help="cells of the default budget")
    given = parser.parse_args()
    small = ["device=cpu"] if given.full else SMALL
    with tempfile.TemporaryDirectory() as folder:
        return int(bool(campaign(Path(folder), CELLS, given.launchers, small)))


def campaign(
    root: Path, cells: list[str], launchers: list[str], options: list[str] = SMALL
) -> list[str]:
    """Run the sweep under each launcher; prints how each did and gives what differs."""
    os.environ.update(QUIET)

    def sweep(name: str, launcher: str) -> list[str]:
        folders = [f"results_dir={root / name}", f"cache_dir={root / 'cache'}"]
        return ["bench", "-m", *options, *cells, *LAUNCHERS[launcher], *folders]

    start = time.monotonic()
    assert started(*sweep("whole", "basic")).wait() == 0
    every = len(records(root / "whole"))
    print(f"basic, undisturbed: {every} cells in {time.monotonic() - start:.0f} s.", flush=True)
    wrong = []
    for launcher in launchers:
        start = time.monotonic()
        first = started(*sweep(launcher, launcher))
        while len(records(root / launcher)) < every / 3 and first.poll() is None:
            time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
        killed = first.wait() == -signal.SIGKILL
        finished = len(records(root / launcher))
        lasted, again = time.monotonic() - start, time.monotonic()
        status = started(*sweep(launcher, launcher)).wait()
        found = differences(root / "whole", root / launcher)
        found += [] if killed else ["it ended before it was killed"]
        found += [] if status == 0 else [f"the repeated command had status {status}"]
        print(
            f"{launcher}: killed after {lasted:.0f} s with {finished} of {every} cells finished, "
            f"repeated in {time.monotonic() - again:.0f} s; "
            f"{'; '.join(found) or 'all the same to the bit'}.",
            flush=True,
        )
        wrong += [f"{launcher}: {each}" for each in found]
    return wrong


if __name__ == "__main__":
    sys.exit(main())
