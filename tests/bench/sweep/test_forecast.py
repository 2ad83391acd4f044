"""What a cell would take, from a few of its steps."""

from types import SimpleNamespace

import pytest
import torch

from bench.runs.cell import Components
from bench.sweep import forecast

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """Time passes only where work says so; other programs make it ``busy`` times longer, of a core."""
    now = SimpleNamespace(seconds=0.0, busy=1.0, threads=1)
    clocks = SimpleNamespace(
        perf_counter=lambda: now.seconds * now.busy, process_time=lambda: now.seconds * now.threads
    )
    monkeypatch.setattr(forecast, "time", clocks)
    return now


def worker(clock, *seconds: float):
    """Work whose calls take these times, the last one again and again."""
    calls = []

    def work() -> None:
        clock.seconds += seconds[min(len(calls), len(seconds) - 1)]
        calls.append(1)

    return work, calls


def test_the_median_call_after_warm_up_counts(clock):
    work, calls = worker(clock, 1.0, 0.25, 0.5, 0.25)
    assert forecast._seconds_per_call(work, CPU, warm_up=1) == 0.25
    assert len(calls) == 4, "until two seconds are spent"


def test_one_long_call_is_enough(clock):
    work, calls = worker(clock, 60.0)
    assert forecast._seconds_per_call(work, CPU, warm_up=1) == 60
    assert len(calls) == 1
    work, calls = worker(clock, 60.0)
    forecast._seconds_per_call(work, CPU, warm_up=4)
    assert len(calls) == 4, "steps that must be done before a graph is recorded"


def test_other_programs_change_nothing_with_one_thread_and_a_bounded_part_with_more(clock):
    def seconds(device: torch.device = CPU) -> float:
        return forecast._seconds_per_call(worker(clock, 0.5)[0], device, warm_up=1)

    clock.busy = 7.0
    assert seconds() == 0.5
    clock.threads = 2
    assert seconds() == 1.0
    clock.busy = 1.0
    assert seconds() == 0.5
    clock.busy, clock.threads = 7.0, 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "synchronize", lambda _: None)
        assert seconds(torch.device("cuda")) == 3.5, "the processor only waits for a GPU"


def test_the_load_is_told(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (4.24, 1.0, 1.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert "a load of 4.2 on 2 cores" in forecast.load_note()


def test_the_parts_add_up(clock, monkeypatch):
    """Steps of 1 s, 10 episodes at once evaluated in 2 s."""

    def advance() -> None:
        clock.seconds += 1.0

    def evaluate(*_) -> None:
        clock.seconds += 2.0

    loop = SimpleNamespace(advance=advance, steps=100)
    learner = SimpleNamespace(supports_cuda_graph=True)
    monkeypatch.setattr(
        forecast, "build_components", lambda _: Components(learner, loop, None, None, 10)
    )
    monkeypatch.setattr(forecast, "evaluate", evaluate)
    config = SimpleNamespace(
        validation=SimpleNamespace(times=4, episodes=50),
        test=SimpleNamespace(episodes=600),
        throughput=SimpleNamespace(seconds=5.0),
    )
    times = forecast.forecast(SimpleNamespace(config=config, device=CPU))
    assert times == {
        "training": 100.0,
        "validation": 4 * 50 / 10 * 2,
        "test": 600 / 10 * 2,
        "speed": 5 + 6 + 12 + 12,
    }
    loop.steps = 0
    times = forecast.forecast(SimpleNamespace(config=config, device=CPU))
    assert times == {"training": 0, "validation": 0, "test": 600 / 10 * 2, "speed": 12 + 12}
