"""Steady-state speed of a learner: training, adaptation, inference."""

import copy
import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from algorithms.learner import Learner
from bench.config import Precision, Train
from bench.data.episodes import EpisodeSampler
from bench.device import matmul_gflop_per_s, peak_mib, reset_peak_memory, synchronize
from bench.energy import joules
from bench.evaluate import evaluate, to_float
from bench.stats import quartiles
from bench.train import UNRECORDED_STEPS, OuterLoop
from bench.world import ALONE, World

WARM_UP_CALLS = 1
BLOCK_SECONDS = 0.02
"""On a GPU, how long calls are timed together: between them it is not waited for, as in training."""
LEAST_CALLS, LEAST_SLOW_CALLS = 5, 3
SLOW_SECONDS = 2.0
"""Calls that take as long together are slow ones, of which fewer are enough."""


def measure(
    learner: Learner,
    train: Train,
    train_sampler: EpisodeSampler,
    test_sampler: EpisodeSampler,
    at_once: int,
    device: torch.device,
    precision: Precision,
    seconds: float,
    world: World = ALONE,
) -> list[dict[str, Any]]:
    """One row a phase: tasks/s, images/s, ms per call (median, interquartile range), peak MiB.

    - ``draw``: drawing ``meta_batch`` training episodes, or the first process's share of them, augmented,
      as float images; images are all of a task;
    - ``train``: whole outer steps (draw episodes, outer gradient, optimizer) of ``meta_batch``
      tasks; images are all of a task. It also tells the arithmetic (see `gflop_per_task`) and its
      share of what the device does in a large product of matrices;
    - ``train_alone``: the same by the first process alone, where there are several; its rate times the
      processes is what ``scaling_efficiency`` of ``train`` is a share of;
    - ``evaluate``: drawing, adapting and classifying ``at_once`` test episodes;
    - ``adapt``: adapting to the support sets of ``at_once`` test episodes, images being theirs;
    - ``infer``: classifying the queries of adapted tasks, images being the queries.

    Each phase runs for about ``seconds`` after warm-up. On a GPU, times are the means of blocks of calls
    that last `BLOCK_SECONDS` together, or of single calls that last longer. Where the device counts its
    energy (NVIDIA GPUs do), rows tell the mean power in it and the energy of 1,000 tasks; the counter
    moves ten times a second, so a phase should last a few seconds for that. The learner is copied,
    not changed. Without training images, the last three phases are measured alone.

    Processes train together: the energy is that of all, the peak of memory that of the first. All else
    is measured by the first; the others give no rows, and shall do nothing while it measures.
    """
    learner = copy.deepcopy(learner)
    rows: list[dict[str, Any]] = []
    if train.images:
        rows = _training(learner, train, train_sampler, device, precision, seconds, world)
    if not world.first:
        return []

    learner.eval()
    shape = test_sampler.shape
    images = shape.ways * (shape.shots + shape.queries)

    def whole() -> None:
        evaluate(learner, test_sampler, at_once, at_once)

    rows.append(_phase("evaluate", whole, at_once, images, device, seconds))
    episodes = to_float(test_sampler.draw(0, at_once))
    support, labels, queries = episodes.support_x, episodes.support_y, episodes.query_x
    with torch.no_grad():
        adapted = learner.adapt(support, labels)
        for phase, work, images in (
            ("adapt", lambda: learner.adapt(support, labels), labels[0].numel()),
            ("infer", lambda: learner.predict(adapted, queries), queries.shape[1]),
        ):
            rows.append(_phase(phase, work, at_once, images, device, seconds))
    return rows


def _training(
    learner: Learner,
    train: Train,
    train_sampler: EpisodeSampler,
    device: torch.device,
    precision: Precision,
    seconds: float,
    world: World,
) -> list[dict[str, Any]]:
    """Measure the phases of training, which change the learner; rows are of the first process."""
    untouched = copy.deepcopy(learner)
    loop = OuterLoop(learner.train(), train_sampler, train, world)
    shape = train_sampler.shape
    images = shape.ways * (shape.shots + shape.queries)
    first = itertools.count(0, train.meta_batch)

    def draw() -> None:
        to_float(loop.draw(next(first)))

    for _ in range(UNRECORDED_STEPS):
        loop.advance()
    tasks = train.meta_batch
    together = _phase("train", loop.advance, tasks, images, device, seconds, world)
    if not world.first:
        return []
    rows = [_phase("draw", draw, len(loop.mine), images, device, seconds), together]
    if world.size > 1:
        alone = OuterLoop(copy.deepcopy(untouched).train(), train_sampler, train)
        for _ in range(UNRECORDED_STEPS):
            alone.advance()
        rows.append(_phase("train_alone", alone.advance, tasks, images, device, seconds))
        ideal = world.size * rows[-1]["tasks_per_s"]
        together["scaling_efficiency"] = together["tasks_per_s"] / ideal
    gflop, peak = gflop_per_task(learner, train_sampler), matmul_gflop_per_s(device, precision)
    speed = gflop * together["tasks_per_s"]
    share = speed / (world.size * peak)
    together |= {"gflop_per_task": gflop, "gflop_per_s": speed, "matmul_share": share}
    return rows


def gflop_per_task(learner: Learner, sampler: EpisodeSampler) -> float:
    """Arithmetic of the outer gradient of one training task, in 10^9 operations.

    Counted are products of matrices and convolutions, a multiplication and an addition as two: not
    elementwise work, nor the factorisations of MetaOptNet's solver. The learner is not changed.
    """
    learner = copy.deepcopy(learner).train()
    with FlopCounterMode(display=False) as counter:
        learner.meta_gradient(to_float(sampler.draw(0, 1)))
    return counter.get_total_flops() / 1e9


def _enough(durations: list[float], seconds: float) -> bool:
    least = LEAST_SLOW_CALLS if sum(durations) >= SLOW_SECONDS else LEAST_CALLS
    return len(durations) >= least and sum(durations) >= seconds


def _phase(
    phase: str,
    work: Callable[[], object],
    tasks: int,
    images: int,
    device: torch.device,
    seconds: float,
    world: World = ALONE,
) -> dict[str, Any]:
    reset_peak_memory(device)
    for _ in range(WARM_UP_CALLS):
        work()
    synchronize(device)

    def timed(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        synchronize(device)
        return time.perf_counter() - start

    block = 1
    if device.type != "cpu":
        block = max(1, *world.each(round(BLOCK_SECONDS / timed(1))))
    durations: list[float] = []
    before = joules(device)
    while world.any(not _enough(durations, seconds)):
        durations.append(timed(block))
    low, median, high = (each / block for each in quartiles(durations))
    row = {
        "phase": phase,
        "tasks_per_s": tasks / median,
        "images_per_s": tasks * images / median,
        "ms_median": 1e3 * median,
        "ms_iqr": 1e3 * (high - low),
        "tasks_per_call": tasks,
        "calls": block * len(durations),
        "peak_mib": peak_mib(device),
    }
    after = joules(device)
    counted = world.each(None if before is None or after is None else after - before)
    if None not in counted:
        spent = sum(filter(None, counted))
        row["power_w"] = spent / sum(durations)
        row["joules_per_1000_tasks"] = 1e3 * spent / (tasks * block * len(durations))
    return row
