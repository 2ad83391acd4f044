"""``python -m tools.gpu.speed``: compare ours with learn2learn on this GPU, in turns, in one run.

The work is that of tests/benchmarks/sides.py, a whole outer gradient: ours eagerly (one launch per
operator), and as a CUDA graph in fp32, tf32 and bf16 (if it is of first order). Times are medians
over rounds; the device is synchronised before each reading of the clock.
"""

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench.core import process

process.configure()  # before torch is imported

import torch
from torch.profiler import ProfilerActivity, profile

from algorithms.learner import Learner, TaskBatch
from bench.check.tasks import random_episodes
from bench.config.schema import Precision
from bench.engine import precision
from bench.engine.cuda_graph import record
from bench.engine.device import describe, synchronize
from bench.engine.memory import choose_chunk_size
from tests.algorithms.peers import pair
from tests.benchmarks.sides import STEPS, strided

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
FIRST = ("MAML, 1 step, 2nd order", "ProtoNet", "Reptile, 5 Adam steps of 10 images", "MetaOptNet")
"""Work that is measured before the rest, and profiled."""
PEER = "learn2learn"
SIDES = ("ours", *(f"ours, graph, {kind}" for kind in ("fp32", "tf32", "bf16")))
ROUNDS = 7 if CUDA else 1

Work = Callable[[], object]


def step_of(learner: Learner) -> Callable[[TaskBatch], dict[str, torch.Tensor]]:
    """Return the outer gradient of a learner as a step that can be captured in a CUDA graph."""

    def step(episodes: TaskBatch) -> dict[str, torch.Tensor]:
        for parameter in learner.parameters():
            parameter.grad = None
        return learner.meta_gradient(episodes)

    return step


def sides(name: str, tasks: int) -> dict[str, Work]:
    """Return the calls to time, by their names in the table."""
    algo, options, own, shape, _, _ = STEPS[name]
    ours, theirs = pair(algo, strided, shape.ways, options, own)
    parts = random_episodes(tasks, *shape, size=28)
    episodes = TaskBatch(
        *(p.to(DEVICE, torch.float32 if p.is_floating_point() else p.dtype) for p in parts)
    )
    kinds: list[Precision] = ["fp32"]
    if CUDA:
        kinds += ["tf32", "bf16"] if ours.order == 1 else ["tf32"]
    found: dict[str, Work] = {}
    for kind in kinds:
        learner = copy.deepcopy(ours).to(DEVICE).train()
        precision.apply(kind, learner)
        learner.chunk_size = choose_chunk_size(learner, TaskBatch(*(part[:1] for part in episodes)))
        step = step_of(learner)
        for _ in range(3 if CUDA else 1):
            step(episodes)
        if kind == "fp32":
            found["ours"] = lambda step=step: step(episodes)
        if CUDA:
            try:
                replay = record(step, episodes)
                found[f"ours, graph, {kind}"] = lambda replay=replay: replay(episodes)
            except RuntimeError as error:
                print(f"{name}: not recorded in {kind}: {str(error).splitlines()[0]}", flush=True)
    precision.apply("fp32", ours)
    peer = step_of(theirs.to(DEVICE).train())
    return found | {PEER: lambda: peer(episodes)}


def timed(work: Work) -> float:
    """Return the time of a call in milliseconds."""
    synchronize(DEVICE)
    start = time.perf_counter()
    work()
    synchronize(DEVICE)
    return 1e3 * (time.perf_counter() - start)


def compared(works: dict[str, Work]) -> dict[str, float]:
    """Return the median times in ms of all sides, which take turns."""
    for work in works.values():
        work()
    times = [{side: timed(work) for side, work in works.items()} for _ in range(ROUNDS)]
    return {side: statistics.median(each[side] for each in times) for side in works}


def profiled(work: Work) -> str:
    """Return a profile of a call as a table."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])]
    with profile(activities=activities) as found:
        work()
        synchronize(DEVICE)
    by = "cuda_time_total" if CUDA else "cpu_time_total"
    return found.key_averages().table(sort_by=by, row_limit=30, max_name_column_width=90)


def row(name: str, tasks: int, ms: dict[str, float]) -> str:
    """Return a row of the table, in Markdown."""
    peer = ms.get(PEER)

    def cell(side: str) -> str:
        ratio = f" ({peer / ms[side]:.1f}x)" if peer and side != PEER and side in ms else ""
        return f"{ms[side]:.2f}{ratio}" if side in ms else "–"

    return f"| {name} | {tasks} | " + " | ".join(map(cell, (PEER, *SIDES))) + " |"


def main() -> None:
    """Compare all work, as far as the time limit allows."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu.speed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--only", default="", help="work with this in its name")
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    out = Path(os.environ.get("OUT", "."))
    print(f"{describe(DEVICE)}, torch {torch.__version__}; ms an outer gradient\n")
    print(f"| work | tasks | {' | '.join((PEER, *SIDES))} |\n|" + " --- |" * (3 + len(SIDES)))
    found, profiles = [], []
    for name in sorted(STEPS, key=lambda name: name not in FIRST):
        if given.only not in name or time.monotonic() > end:
            continue
        tasks = STEPS[name][4] if CUDA else 2
        works = sides(name, tasks)
        ms = compared(works)
        print(row(name, tasks, ms), flush=True)
        found.append({"work": name, "tasks": tasks, "ms": ms})
        if name in FIRST:
            profiles.append(f"== {name}\n{profiled(works['ours'])}")
        (out / "speed.json").write_text(json.dumps(found, indent=1) + "\n")
        (out / "profile.txt").write_text("\n".join(profiles))


if __name__ == "__main__":
    main()
