"""Timing against a peer, in turns, and as sizes grow; the tables at the end of a run."""

import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
import torch

from bench.device import describe, peak_mib, reset_peak_memory
from bench.report import speed
from bench.stats import quartiles

ROUNDS = 7
BUSY = 0.15  # of the processor's time stolen by other virtual machines
Sides = tuple[tuple[Callable[[], object], int], ...]
WARM_UP, CALLS = 2, 5  # at each size
CPU = torch.device("cpu")
RESULTS = pytest.StashKey[list[speed.Result]]()
GROWTHS = pytest.StashKey[list[speed.Growth]]()


class Against(Protocol):
    def __call__(
        self,
        work: str,
        ours: Callable[[], object],
        peer: Callable[[], object],
        our_tasks: int,
        peer_tasks: int | None = None,
    ) -> None: ...


@pytest.fixture
def against(benchmark, request: pytest.FixtureRequest) -> Against:
    """Time one call of ours and one of the peer's, in turns, after a warm-up of each.

    The ratio of their tasks/s, one a round, goes to ``extra_info`` and to the table, and so does
    how busy a virtual machine's neighbours were. Where benchmarks are disabled, ours is called once.
    """

    def compare(work, ours, peer, our_tasks, peer_tasks=None) -> None:
        if benchmark.disabled:
            benchmark(ours)
            return
        sides = ((ours, our_tasks), (peer, peer_tasks or our_tasks))
        timed, stolen = in_turns(sides)
        if stolen > BUSY:  # once more; the choice looks at the neighbours, not at the ratio
            timed, stolen = min((timed, stolen), in_turns(sides), key=lambda each: each[1])
        low, ratio, high = quartiles([one / other for one, other in timed])
        result: speed.Result = {
            "work": work,
            "ours_tasks_per_s": quartiles([one for one, _ in timed])[1],
            "peer_tasks_per_s": quartiles([other for _, other in timed])[1],
            "ratio": ratio,
            "ratio_low": low,
            "ratio_high": high,
            "rounds": ROUNDS,
            "stolen": stolen,
        }
        benchmark.extra_info |= {**result, **machine()}
        request.config.stash.setdefault(RESULTS, []).append(result)
        benchmark.pedantic(ours, rounds=3)

    return compare


class Grow(Protocol):
    def __call__(
        self, work: str, axis: str, sizes: tuple[int, ...], make: Callable[[int], Callable]
    ) -> None: ...


@pytest.fixture
def growth(benchmark, request: pytest.FixtureRequest) -> Grow:
    """Time what ``make`` makes of each size, and see how much memory a call takes.

    Median time, most memory above the process, and the exponent of the time's growth from the last
    but one size to the last go to ``extra_info`` and to the table. Where benchmarks are disabled,
    the two smallest are called once.
    """

    def measure(work, axis, sizes, make) -> None:
        if benchmark.disabled:
            make(sizes[0])()
            benchmark(make(sizes[1]))
            return
        times, memory = [], []
        for size in sizes:
            call = make(size)
            for _ in range(WARM_UP):
                call()
            reset_peak_memory(CPU)
            before = peak_mib(CPU)
            seconds = []
            for _ in range(CALLS):
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)
            times.append(1e3 * quartiles(seconds)[1])
            memory.append(peak_mib(CPU) - before)
        result: speed.Growth = {
            "work": work,
            "axis": axis,
            "sizes": list(sizes),
            "ms": times,
            "mib": memory,
            "exponent": math.log(times[-1] / times[-2]) / math.log(sizes[-1] / sizes[-2]),
        }
        benchmark.extra_info |= {**result, **machine()}
        request.config.stash.setdefault(GROWTHS, []).append(result)
        benchmark.pedantic(call, rounds=1)

    return measure


def machine() -> dict[str, object]:
    return {
        "device_name": describe(CPU),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def in_turns(sides: Sides) -> tuple[list[list[float]], float]:
    """The tasks/s of each side in each round, after a round to warm up, and the stolen time's share."""
    rounds: list[list[float]] = []
    before = processor_time()
    for _ in range(1 + ROUNDS):
        rounds.append([])
        for call, tasks in sides:
            start = time.perf_counter()
            call()
            rounds[-1].append(tasks / (time.perf_counter() - start))
    stolen, wanted = (b - a for a, b in zip(before, processor_time(), strict=True))
    return rounds[1:], stolen / max(1, wanted)


def processor_time() -> tuple[int, int]:
    """Ticks in which this machine's cores were lent to others, and in which they wanted to work."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0, 0
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    return steal, user + nice + system + irq + softirq + steal


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Print the tables."""
    if results := config.stash.get(RESULTS, []):
        terminalreporter.section("tasks/s against learn2learn 0.2.0, in the same run")
        terminalreporter.write(speed.markdown(results) + "\n")
    if growths := config.stash.get(GROWTHS, []):
        terminalreporter.section("cost at scale")
        terminalreporter.write(speed.growth_markdown(growths) + "\n")
