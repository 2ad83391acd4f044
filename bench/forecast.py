"""How long a cell will take on this machine, from a few steps of it."""

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

    A few outer steps and one evaluation are timed, and multiplied. What comes before training
    (loading torch and the data) is left out. Nothing is stored.
    """
    config, device = cell.config, cell.device
    learner, loop, _, test_sampler, at_once = parts(cell)
    unrecorded = UNRECORDED_STEPS if recordable(learner, device) else 0
    step = _seconds_per_call(loop.advance, device, 1 + unrecorded)
    batch = _seconds_per_call(lambda: evaluate(learner, test_sampler, at_once, at_once), device, 1)

    def evaluation(episodes: int) -> float:
        return episodes / at_once * batch

    calls = WARM_UP_CALLS + LEAST_CALLS
    return {
        "training": loop.steps * step,
        "validation": config.validation.times * evaluation(config.validation.episodes),
        "test": evaluation(config.test.episodes),
        # drawing and training, and evaluation as a whole and by its two parts
        "speed": sum(max(config.throughput.seconds, calls * each) for each in (0, step, batch))
        + max(2 * config.throughput.seconds, calls * batch),
    }


def _seconds_per_call(work: Callable[[], object], device: torch.device, warm_up: int) -> float:
    """The median time of a call after so many of warm-up, of which a long one is enough."""
    durations: list[float] = []
    spent = 0.0
    while len(durations) <= warm_up or spent < SECONDS:
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        durations.append(time.perf_counter() - start)
        spent += durations[-1]
        if len(durations) >= warm_up and durations[-1] > SECONDS:
            return durations[-1]
    return statistics.median(durations[warm_up:])
