"""Forecast of a cell's duration on this machine when idle, extrapolated from a few steps."""

import os
import statistics
import time
from collections.abc import Callable

import torch

from bench.engine.device import synchronize
from bench.engine.evaluate import evaluate
from bench.engine.throughput import LEAST_CALLS, WARM_UP_CALLS
from bench.engine.train import UNRECORDED_STEPS, can_record
from bench.runs.cell import Cell, build_components

SECONDS = 2.0
"""Duration for which each kind of work is timed; at least one call."""


def forecast(cell: Cell) -> dict[str, float]:
    """Return the estimated seconds of training, validation, test and speed measurement.

    A few outer steps and one evaluation are timed and extrapolated. On a CPU, work takes on an idle
    machine neither longer than the CPU time of its threads nor longer than it just took: the
    smaller of the two counts, so that with one thread other programs have no effect. With more
    threads they do: the time is then an upper bound, and that time divided by the number of threads
    a lower one. The time before training (loading torch and the data) is not included. Nothing is
    stored.
    """
    config, device = cell.config, cell.device
    learner, loop, _, test_source, eval_batch_size = build_components(cell)
    unrecorded = UNRECORDED_STEPS if can_record(learner, device) else 0
    step = _seconds_per_call(loop.advance, device, 1 + unrecorded) if loop.steps else 0.0
    batch = _seconds_per_call(
        lambda: evaluate(learner, test_source, eval_batch_size, eval_batch_size), device, 1
    )

    def evaluation(episodes: int) -> float:
        return episodes / eval_batch_size * batch

    seconds, calls = config.throughput.seconds, WARM_UP_CALLS + LEAST_CALLS
    speed = sum(max(seconds, calls * each) for each in ((0, step, batch) if step else (batch,)))
    speed += max(2 * seconds, calls * batch)
    return {
        "training": loop.steps * step,
        "validation": evaluation(config.validation.episodes) * config.validation.times
        if loop.steps
        else 0.0,
        "test": evaluation(config.test.episodes),
        # phases: draw and train; evaluate, adapt and infer
        "speed": speed if seconds else 0.0,
    }


def _seconds_per_call(work: Callable[[], object], device: torch.device, warm_up: int) -> float:
    """Return the median time of a call after ``warm_up`` calls; a single long call is enough."""
    durations: list[float] = []
    spent = 0.0
    while len(durations) <= warm_up or spent < SECONDS:
        synchronize(device)
        start, worked = time.perf_counter(), time.process_time()
        work()
        synchronize(device)
        durations.append(time.perf_counter() - start)
        if device.type == "cpu":
            durations[-1] = min(durations[-1], time.process_time() - worked)
        spent += durations[-1]
        if len(durations) >= warm_up and durations[-1] > SECONDS:
            return durations[-1]
    return statistics.median(durations[warm_up:])


def load_note() -> str:
    """Return a note on the machine's load, this process included, and its effect on forecasts."""
    return (
        f"In the last minute this machine had a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} "
        "cores. The times are those on an idle one; with threads=1 they do not depend on the load, "
        "with N threads a busy machine makes them up to N times too long."
    )
