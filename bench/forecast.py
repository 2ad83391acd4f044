"""How long a cell will take on this machine when it is idle, from a few steps of it."""

import os
import statistics
import time
from collections.abc import Callable

import torch

from bench.cell import Cell, parts
from bench.device import synchronize
from bench.evaluate import evaluate
from bench.throughput import LEAST_CALLS, WARM_UP_CALLS
from bench.train import UNRECORDED_STEPS, recordable

SECONDS = 2.0
"""How long each kind of work is tried for; one call at least."""


def forecast(cell: Cell) -> dict[str, float]:
    """Seconds of training, validation, test and the measurement of speed, as far as one can tell.

    A few outer steps and one evaluation are timed, and multiplied. On a CPU, work takes no longer on an
    idle machine than the processor time of its threads, nor than it took: the less of the two counts,
    so that with one thread other programs change nothing. With more threads they do: the time is
    then an upper bound, and this many times less a lower one. What comes before training
    (loading torch and the data) is left out. Nothing is stored.
    """
    config, device = cell.config, cell.device
    learner, loop, _, test_sampler, at_once = parts(cell)
    unrecorded = UNRECORDED_STEPS if recordable(learner, device) else 0
    step = _seconds_per_call(loop.advance, device, 1 + unrecorded) if loop.steps else 0.0
    batch = _seconds_per_call(lambda: evaluate(learner, test_sampler, at_once, at_once), device, 1)

    def evaluation(episodes: int) -> float:
        return episodes / at_once * batch

    seconds, calls = config.throughput.seconds, WARM_UP_CALLS + LEAST_CALLS
    speed = sum(max(seconds, calls * each) for each in ((0, step, batch) if step else (batch,)))
    speed += max(2 * seconds, calls * batch)
    return {
        "training": loop.steps * step,
        "validation": evaluation(config.validation.episodes) * config.validation.times
        if loop.steps
        else 0.0,
        "test": evaluation(config.test.episodes),
        # drawing and training, and evaluation as a whole and by its two parts
        "speed": speed if seconds else 0.0,
    }


def _seconds_per_call(work: Callable[[], object], device: torch.device, warm_up: int) -> float:
    """The median time of a call after so many of warm-up, of which a long one is enough."""
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
    """Say how busy the machine is, this process included, and that times are not those of a busy one."""
    return (
        f"In the last minute this machine had a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} "
        "cores. The times are those on an idle one; with threads=1 they do not depend on the load, "
        "with N threads a busy machine makes them up to N times too long."
    )
