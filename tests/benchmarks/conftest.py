"""Timing of our code and a peer's, interleaved, and the table of ratios at the end of a run."""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
import torch

from bench.device import describe
from bench.report import speed
from bench.stats import quartiles

ROUNDS = 7
BUSY = 0.15  # of the processor's time stolen by other virtual machines
Sides = tuple[tuple[Callable[[], object], int], ...]
RESULTS = pytest.StashKey[list[speed.Result]]()


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
        benchmark.extra_info |= {
            **result,
            "device_name": describe(torch.device("cpu")),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        request.config.stash.setdefault(RESULTS, []).append(result)
        benchmark.pedantic(ours, rounds=3)

    return compare


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
    """Print the table of ratios."""
    if results := config.stash.get(RESULTS, []):
        terminalreporter.section("tasks/s against learn2learn 0.2.0, in the same run")
        terminalreporter.write(speed.markdown(results) + "\n")
