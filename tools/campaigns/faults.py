"""``python -m tools.campaigns.faults``: kill sweeps at random moments, and report what was lost.

Each round starts a sweep of small cells in a folder that all rounds share, as one process or as
several at the same time, and sends SIGKILL, SIGTERM or SIGINT to all of it after a random time:
while data is prepared, while cells are trained and tested, while the report is written. After each
kill, everything in the folders must be readable, and what had finished must be there unchanged. A
process that was not hit must have ended with success, and one that was hit with the status of that
signal: unless it was SIGKILL, it must have saved every training for which it printed a validation.
When all cells are done, some rounds kill `bench.report` alone; then folder and cache are emptied.
In the end the sweep runs undisturbed: it resumes every saved training, and all accuracies,
histories and parameters must equal those of a sweep that was never killed.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from safetensors.torch import load_file

from bench.core.signals import RESUMABLE
from bench.sweep.callback import grid

ROOT = Path(__file__).parent.parent.parent
CELLS = ["algo=protonet,maml", "seed=0,1", "train.examples=9000"]
SMALL = [
    "dataset=glyphs",
    "backbone.filters=8",
    "validation.times=4",
    "validation.episodes=10",
    "test.episodes=20",
    "throughput.seconds=0.05",
    "device=cpu",
    "floors=[]",
]


def main() -> int:
    """Run the campaign; the exit status is 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="rounds (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    parser.add_argument("--longest", type=float, default=25.0, help="seconds before a kill (25)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dice = random.Random(given.seed)
        lost = campaign(Path(folder), CELLS, given.kills, dice, given.longest)
    return int(bool(lost))


def campaign(
    root: Path, cells: list[str], kills: int, dice: random.Random, longest: float
) -> list[str]:
    """Kill a sweep `kills` times, print a summary, and return what was lost."""
    whole, broken, cache = root / "whole", root / "broken", root / "cache"

    logs = (root / f"{number}.log" for number in count())

    def sweep(results: Path, cache: Path) -> Started:
        folders = [f"results_dir={results}", f"cache_dir={cache}"]
        log = next(logs)
        return Started(started("bench", "-m", *SMALL, *cells, *folders, log=log), log)

    undisturbed = sweep(whole, root / "another")
    every = len(grid(cells))
    lost: list[str] = []
    tried: Counter[str] = Counter()
    processes = resumed = 0
    finished: dict[str, str] = {}
    for _ in range(kills):
        reporting = len(finished) == every
        if reporting and dice.random() < 0.4:
            shutil.rmtree(broken)
            shutil.rmtree(cache)
            finished, reporting = {}, False
        number = dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        if reporting:
            log = next(logs)
            running = [Started(started("bench.report", f"results_dir={broken}", log=log), log)]
        else:
            running = [sweep(broken, cache) for _ in range(dice.choice([1, 1, 3, 8]))]
        time.sleep(dice.uniform(0.5, min(longest, 6) if reporting else longest))
        hit = [each for each in running if each.process.poll() is None]
        for each in hit:
            os.killpg(each.process.pid, number)
        tried[f"{signal.Signals(number).name} {doing(broken, cache, every)}"] += bool(hit)
        processes += len(hit)
        for each in running:
            lost += wrong_end(each, number if each in hit else None, broken, len(running) > 1)
            resumed += len(each.cells("resumes at step"))
        lost += [*unreadable(broken), *unreadable(cache)]
        now = records(broken)
        lost += [f"{cell} was finished and is no more" for cell in finished if cell not in now]
        lost += [f"{c} changed after its end" for c, d in finished.items() if now.get(c, d) != d]
        finished = now
    saved = {path.parent.name for path in broken.glob("runs/*/checkpoint.pt")}
    last = sweep(broken, cache)
    lost += wrong_end(last, None, broken)
    again = last.cells("resumes at step")
    lost += [f"{cell} was saved and began anew" for cell in sorted(saved - again)]
    lost += wrong_end(undisturbed, None, whole)
    lost += differences(whole, broken)
    kinds = ", ".join(f"{n} {what}" for what, n in sorted(tried.items()) if n)
    print(f"{tried.total()} kills of {processes} processes in {kills} rounds: {kinds}.")
    print(f"{resumed + len(again)} times a cell went on from where it was saved.")
    print(f"Lost or damaged: {'; '.join(lost) or 'nothing'}.")
    return lost


def doing(results: Path, cache: Path, every: int) -> str:
    """Return the phase of a sweep, inferred from its files so far."""
    if not list(cache.glob("prepared/*.pt")):
        return "before cells ran"
    if len(list(results.glob("runs/*/record.json"))) == every:
        return "while the report was written"
    return "while cells ran"


class Started(NamedTuple):
    """A process and its log file."""

    process: subprocess.Popen[bytes]
    log: Path

    def cells(self, said: str) -> set[str]:
        """Return the cells for which the log has a line with this text."""
        lines = self.log.read_text(errors="replace").splitlines()
        return {line.split()[0].rstrip(":") for line in lines if said in line}


def started(*arguments: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a module of ours in its own process group, with its output in a log file, if any."""
    with open(log or os.devnull, "wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


STATUSES = {signal.SIGTERM: RESUMABLE, signal.SIGINT: 130}
"""Exit statuses after a handled signal; without a handler yet, Python dies of the signal."""


def wrong_end(
    ended: Started, number: int | None, results: Path, among_others: bool = False
) -> list[str]:
    """Return what is wrong with how a process ended, which signal `number` hit, if any.

    If ``among_others``, it may leave cells that others are running, and indicate that by its
    status.
    """
    status = ended.process.wait()
    possible = {0, *([RESUMABLE] if among_others else [])}
    if number is not None:
        possible |= {-number, STATUSES.get(number, 0)}
    if status not in possible:
        return [f"a process ended with {status}: {ended.log.read_text(errors='replace')[-300:]}"]
    if number in (None, signal.SIGKILL) or status == 0:
        return []
    unsaved = [
        cell
        for cell in sorted(ended.cells(": validation "))
        if not any(
            (results / "runs" / cell / file).exists() for file in ("record.json", "checkpoint.pt")
        )
    ]
    return [f"{cell} was trained, and not saved before the end" for cell in unsaved]


def records(results: Path) -> dict[str, str]:
    """Return a digest of the files of each finished cell."""
    found = {}
    for path in sorted(results.glob("runs/*/record.json")):
        files = sorted(p for p in path.parent.iterdir() if not p.name.startswith("."))
        content = b"".join(file.read_bytes() for file in files)
        found[path.parent.name] = hashlib.sha256(content).hexdigest()
    return found


def unreadable(results: Path) -> list[str]:
    """Return an error for each file that exists and cannot be read."""
    wrong = []
    for path in results.rglob("*"):
        try:
            if path.name.startswith(".") or not path.is_file():
                continue
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".csv":
                pd.read_csv(path)
            elif path.suffix == ".pt":
                torch.load(path, weights_only=True)
            elif path.suffix in (".md", ".tex", ".html", ".yaml"):
                assert path.read_text().endswith("\n") or path.suffix == ".html"
        except Exception as error:
            wrong.append(f"{path.name} cannot be read ({type(error).__name__})")
    return wrong


def differences(whole: Path, broken: Path) -> list[str]:
    """Return the differences between an undisturbed sweep and one that was killed."""
    if (names := sorted(records(whole))) != sorted(records(broken)):
        return ["the cells are not the same"]
    wrong = []
    for name in names:
        one, other = whole / "runs" / name, broken / "runs" / name
        for file, but in (("episodes.csv", []), ("history.csv", ["seconds"])):
            if (
                not pd.read_csv(one / file)
                .drop(columns=but)
                .equals(pd.read_csv(other / file).drop(columns=but))
            ):
                wrong.append(f"{name}/{file} is not that of an undisturbed run")
        weights = load_file(other / "model.safetensors")
        for key, value in load_file(one / "model.safetensors").items():
            if not torch.equal(value, weights[key]):
                wrong.append(f"{name}: {key} is not that of an undisturbed run")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
