"""``python -m tools.campaigns.launchers joblib ray``: run a sweep under launchers, killed midway.

The sweep runs undisturbed under Hydra's basic launcher. Then each named launcher runs it in its own
folder. When a third of its cells are finished, the command alone gets SIGKILL, and is then
repeated. When two thirds are finished, one of its workers is killed, if it has any: Ray restarts
that cell by itself; joblib's command ends, and is repeated. Accuracies, losses, histories and
parameters must be bit-identical to those of the basic launcher. With ``--full``, cells have the
default budget: an hour for three launchers on two cores.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tools.campaigns.faults import differences, records, started

CELLS = ["algo=maml,reptile,protonet,metaoptnet", "shots=1,5", "seed=0,1,2"]
SMALL = [
    "dataset=glyphs",
    "train.examples=1000",
    "backbone.filters=8",
    "validation.times=2",
    "validation.episodes=10",
    "test.episodes=20",
    "throughput.seconds=0.01",
    "device=cpu",
    "floors=[]",
]
LAUNCHERS = {
    "basic": ["threads=1"],
    "joblib": ["launcher=joblib"],
    "ray": ["launcher=ray"],
    "slurm": ["launcher=slurm"],
}
WORKERS = {"joblib": b"LokyProcess", "ray": b"ray::_run_job"}
"""Text in the command lines of worker processes, which run cells."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "300"}


def main() -> int:
    """Run the campaign; the exit status is 1 if something differs."""
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
    """Run the sweep under each launcher, print a summary of each, and return the differences."""
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
        folder, command = root / launcher, sweep(launcher, launcher)
        ends = [ended(command, folder, every // 3, kill)]
        if launcher in WORKERS:
            worker = partial(kill_worker, mark=WORKERS[launcher])
            ends.append(ended(command, folder, every * 2 // 3, worker))
        if ends[-1].status:
            ends.append(ended(command, folder))
        found = differences(root / "whole", folder)
        found += ["the last command failed"] if ends[-1].status else []
        found += [] if all(end.killed for end in ends) else ["it ended before it was killed"]
        told = ", ".join(end.told for end in ends)
        print(f"{launcher}: {told}; {'; '.join(found) or 'all the same to the bit'}.", flush=True)
        wrong += [f"{launcher}: {each}" for each in found]
    return wrong


class End(NamedTuple):
    """Exit status of a command, whether something was killed before, and a summary in words."""

    status: int
    killed: bool
    told: str


def ended(
    command: list[str],
    folder: Path,
    count: int = 0,
    kill: Callable[[subprocess.Popen[bytes]], bool] | None = None,
) -> End:
    """Run a command, and call `kill`, if given, once `count` cells are finished."""
    start, killed, told = time.monotonic(), kill is None, ""
    running = started(*command)
    while kill and not killed and running.poll() is None:
        time.sleep(0.1)
        if (finished := len(records(folder))) >= count and (killed := kill(running)):
            told = f"{finished} cells finished after {time.monotonic() - start:.0f} s, "
    status = running.wait()
    return End(status, killed, f"{told}status {status} after {time.monotonic() - start:.0f} s")


def kill(running: subprocess.Popen[bytes]) -> bool:
    """Kill only the command, immediately."""
    running.kill()
    return True


def kill_worker(running: subprocess.Popen[bytes], mark: bytes) -> bool:
    """Kill one of the worker processes of the command, and return whether there was one."""
    for process in descendants(running.pid):
        with suppress(OSError):
            if mark in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGKILL)
                return True
    return False


def descendants(process: int) -> Iterator[int]:
    """Yield the ids of all child processes, recursively."""
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, listed.read_text().split()):
                yield child
                yield from descendants(child)


if __name__ == "__main__":
    sys.exit(main())
