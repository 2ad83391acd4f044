"""The whole machine at work on one side of a comparison: several processes, several threads each."""

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench.core import process

process.configure()  # before torch is imported, in each process

import torch  # noqa: E402

from bench.engine import device as devices  # noqa: E402
from bench.stats.intervals import quartiles  # noqa: E402
from tests.benchmarks.sides import Sides, sides  # noqa: E402

ROUNDS, SECONDS = 5, 1.0  # of a comparison, at the best layouts
TRIALS, TRIAL_SECONDS = 2, 0.4  # of each layout, to find the best
BUSY = 0.15  # of the processor's time stolen by other virtual machines
OURS, PEER = SIDES = ("ours", "peer")


class Layout(NamedTuple):
    """Processes that work side by side, and the threads of each."""

    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.processes} x {self.threads}"


class Timed(NamedTuple):
    """Tasks/s of both sides in each round, at the layout that is best for each."""

    layouts: dict[str, Layout]
    rates: dict[str, list[float]]
    stolen: float


class Machine:
    """Processes that stay; each can do any side of any comparison, with any number of threads."""

    def __init__(self, device: torch.device) -> None:
        cores = len(os.sched_getaffinity(0))
        self.layouts = [Layout(1, 1)]
        if device.type == "cpu":
            shared = (Layout(k, cores // k) for k in range(1, cores + 1) if cores % k == 0)
            self.layouts += [layout for layout in shared if layout != (1, 1)]
        context = multiprocessing.get_context("spawn")
        self._workers = []
        for _ in range(max(layout.processes for layout in self.layouts)):
            here, there = context.Pipe()
            worker = context.Process(target=work, args=(there, device), daemon=True)
            worker.start()
            self._workers.append((worker, here))

    def rate(self, name: str, side: str, layout: Layout, seconds: float) -> float:
        """Return the tasks/s of all processes of a layout together, each for at least one call."""
        connections = [here for _, here in self._workers[: layout.processes]]
        for connection in connections:
            connection.send((name, side, layout.threads, seconds))
        return sum(connection.recv() for connection in connections)

    def compare(self, name: str) -> Timed:
        """Find the best layout of each side, then time both sides in turns."""
        found: dict[str, dict[Layout, float]] = {side: {} for side in SIDES}
        for trial in range(1 + TRIALS):  # the first is to warm up
            for side in SIDES:
                for layout in self.layouts:
                    rate = self.rate(name, side, layout, TRIAL_SECONDS if trial else 0)
                    if trial:
                        found[side][layout] = max(rate, found[side].get(layout, 0))
        best = {side: max(rates, key=lambda layout: rates[layout]) for side, rates in found.items()}
        timed = self._in_turns(name, best)
        if timed.stolen > BUSY:  # once more; the choice looks at the neighbours, not at the ratio
            timed = min(timed, self._in_turns(name, best), key=lambda each: each.stolen)
        return timed

    def _in_turns(self, name: str, layouts: dict[str, Layout]) -> Timed:
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        before = processor_time()
        for _ in range(ROUNDS):
            for side in SIDES:
                rates[side].append(self.rate(name, side, layouts[side], SECONDS))
        stolen, wanted = (b - a for a, b in zip(before, processor_time(), strict=True))
        return Timed(layouts, rates, stolen / max(1, wanted))

    def close(self) -> None:
        """End the processes."""
        for worker, here in self._workers:
            here.close()
            worker.join()


def work(connection: Connection, device: torch.device) -> None:
    """Do what is asked for until the other end is closed: tasks/s of a side, timed."""
    made: dict[tuple[str, int], Sides] = {}
    while True:
        try:
            name, side, threads, seconds = connection.recv()
        except EOFError:
            return
        torch.set_num_threads(threads)
        if (name, threads) not in made:
            made = {known: each for known, each in made.items() if known[0] == name}
            made[name, threads] = sides(name, device)
        ours, peer, our_tasks, peer_tasks = made[name, threads]
        call, tasks = (ours, our_tasks) if side == OURS else (peer, peer_tasks)
        calls, start = 0, time.perf_counter()
        while not calls or time.perf_counter() - start < seconds:
            call()
            devices.synchronize(device)
            calls += 1
        connection.send(calls * tasks / (time.perf_counter() - start))


def processor_time() -> tuple[int, int]:
    """Ticks in which this machine's cores were lent to others, and in which they wanted to work."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0, 0
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    return steal, user + nice + system + irq + softirq + steal


def summary(name: str, timed: Timed) -> dict[str, object]:
    """What is saved of a comparison, see `bench.report.speed.Result`."""
    ratios = [one / other for one, other in zip(*(timed.rates[s] for s in SIDES), strict=True)]
    low, ratio, high = quartiles(ratios)
    return {
        "work": name,
        "ours_tasks_per_s": quartiles(timed.rates[OURS])[1],
        "ours_layout": str(timed.layouts[OURS]),
        "peer_tasks_per_s": quartiles(timed.rates[PEER])[1],
        "peer_layout": str(timed.layouts[PEER]),
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "rounds": ROUNDS,
        "stolen": timed.stolen,
    }
