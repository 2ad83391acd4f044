"""Timing against a peer, on the whole machine, and as sizes grow; the tables at the end of a run."""

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import torch

from bench.engine import device as devices
from bench.report import speed
from bench.stats.intervals import quartiles
from tests.benchmarks.machine import Machine, summary
from tests.benchmarks.sides import sides

WARM_UP, CALLS = 2, 5  # at each size
RESULTS = pytest.StashKey[list[speed.Result]]()
GROWTHS = pytest.StashKey[list[speed.Growth]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options = parser.getgroup("speed", "comparisons of speed")
    options.addoption("--device", default="cpu", help="cpu or cuda: what both sides are timed on")
    options.addoption(
        "--speed-file", type=Path, help="keep results here for bench.report.speed, one by one"
    )
    options.addoption(
        "--max-load", type=float, default=0.5, help="refuse a machine of a higher load average"
    )


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    return devices.resolve(pytestconfig.getoption("--device", "cpu"))


@pytest.fixture(scope="session")
def idle(pytestconfig: pytest.Config) -> None:
    """Refuse to time anything while the machine has other work."""
    load, most = os.getloadavg()[0], pytestconfig.getoption("--max-load")
    if load > most:
        pytest.exit(
            f"The load average of this machine is {load:.2f}: no speed is measured above {most}. "
            "End what else runs, wait a minute, and try again.",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


@pytest.fixture(scope="session")
def machine(idle: None, device: torch.device) -> Iterator[Machine]:
    machine = Machine(device)
    yield machine
    machine.close()


@pytest.fixture
def against(benchmark, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Time both sides of a comparison, each at its best number of processes and threads.

    The ratio of their tasks/s, one a round, goes to ``extra_info`` and to the table, and so does
    how busy a virtual machine's neighbours were. Where benchmarks are disabled, ours is called once.
    """

    def compare(name: str) -> None:
        if benchmark.disabled:
            benchmark(sides(name, torch.device("cpu")).ours)
            return
        machine: Machine = request.getfixturevalue("machine")
        result = summary(name, machine.compare(name))
        keep(request.config, RESULTS, benchmark, result)
        device = request.getfixturevalue("device")
        ours = sides(name, device).ours
        benchmark.pedantic(lambda: (ours(), devices.synchronize(device)), rounds=1)

    return compare


class Grow(Protocol):
    def __call__(
        self, work: str, axis: str, sizes: tuple[int, ...], make: Callable[[int], Callable]
    ) -> None: ...


@pytest.fixture
def growth(benchmark, request: pytest.FixtureRequest, device: torch.device) -> Grow:
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
        request.getfixturevalue("idle")
        times, memory = [], []
        for size in sizes:
            call = make(size)
            for _ in range(WARM_UP):
                call()
            devices.synchronize(device)
            devices.reset_peak_memory(device)
            before = devices.peak_mib(device)
            seconds = []
            for _ in range(CALLS):
                start = time.perf_counter()
                call()
                devices.synchronize(device)
                seconds.append(time.perf_counter() - start)
            times.append(1e3 * quartiles(seconds)[1])
            memory.append(devices.peak_mib(device) - before)
        result: speed.Growth = {
            "work": work,
            "axis": axis,
            "sizes": list(sizes),
            "ms": times,
            "mib": memory,
            "exponent": math.log(times[-1] / times[-2]) / math.log(sizes[-1] / sizes[-2]),
        }
        keep(request.config, GROWTHS, benchmark, result)
        benchmark.pedantic(call, rounds=1)

    return measure


def keep(config: pytest.Config, key: pytest.StashKey, benchmark, result) -> None:
    """Hold a result for the table, and write all so far to the file, if one was named."""
    device = devices.resolve(config.getoption("--device", "cpu"))
    benchmark.extra_info |= {
        **result,
        "device_name": devices.describe(device),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    config.stash.setdefault(key, []).append(result)
    if file := config.getoption("--speed-file"):
        saved = [*config.stash.get(RESULTS, []), *config.stash.get(GROWTHS, [])]
        about = {k: v for k, v in benchmark.extra_info.items() if k not in result}
        content = {"machine": about, "benchmarks": [{"extra_info": each} for each in saved]}
        file.write_text(json.dumps(content, indent=1) + "\n")


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Print the tables."""
    if results := config.stash.get(RESULTS, []):
        terminalreporter.section(
            "tasks/s of the machine against learn2learn 0.2.0, in the same run"
        )
        terminalreporter.write(speed.markdown(results) + "\n")
    if growths := config.stash.get(GROWTHS, []):
        terminalreporter.section("cost at scale")
        terminalreporter.write(speed.growth_markdown(growths) + "\n")
