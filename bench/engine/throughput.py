"""Steady-state throughput of a learner: training, adaptation, inference."""

import copy
import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from algorithms.learner import Learner
from bench.config.schema import Precision, Train
from bench.engine.device import matmul_gflop_per_s, peak_mib, reset_peak_memory, synchronize
from bench.engine.distributed import SINGLE_PROCESS, ProcessGroup
from bench.engine.energy import joules
from bench.engine.evaluate import evaluate, to_float
from bench.engine.train import UNRECORDED_STEPS, OuterLoop
from bench.stats.intervals import quartiles
from bench.tasks.base import TaskSource

WARM_UP_CALLS = 1
BLOCK_SECONDS = 0.02
"""Duration of a block of calls timed together on a GPU: within it the host does not wait, as in
training."""
LEAST_CALLS, LEAST_SLOW_CALLS = 5, 3
SLOW_SECONDS = 2.0
"""If the calls so far took this long in total, `LEAST_SLOW_CALLS` of them are enough."""


def measure(
    learner: Learner,
    train: Train,
    train_source: TaskSource,
    test_source: TaskSource,
    eval_batch_size: int,
    device: torch.device,
    precision: Precision,
    seconds: float,
    world: ProcessGroup = SINGLE_PROCESS,
) -> list[dict[str, Any]]:
    """Return one row per phase: tasks/s, examples/s, ms per call (median, interquartile range), peak MiB.

    - ``draw``: drawing ``meta_batch`` training episodes, or the main process's share of them,
      augmented, as floats; examples are all those of a task;
    - ``train``: full outer steps (draw episodes, outer gradient, optimizer) of ``meta_batch`` tasks;
      examples are all those of a task. It also has the arithmetic (see `gflop_per_task`) and its share of
      the device's throughput in a large matrix product;
    - ``train_alone``: the same by the main process alone, if there are several; its tasks/s times the
      number of processes is the reference of ``scaling_efficiency`` of ``train``;
    - ``evaluate``: drawing, adapting to and classifying ``eval_batch_size`` test episodes;
    - ``adapt``: adapting to the support sets of ``eval_batch_size`` test episodes; examples are theirs;
    - ``infer``: classifying the queries of adapted tasks; examples are the queries.

    Each phase runs for about ``seconds`` after warm-up. On a GPU, times are means over blocks of
    calls that last `BLOCK_SECONDS` together, or single calls that last longer. If the device has an
    energy counter (NVIDIA GPUs have), rows include the mean power in W and the energy of 1,000
    tasks; the counter is updated ten times a second, so a phase should then last a few seconds. The
    learner is copied, not changed. Without training examples, only the last three phases are
    measured.

    With several processes, training is joint: the energy is the sum over all, the memory peak that
    of the main process. Everything else is measured by the main process; the others return no rows
    and must be idle while it measures.
    """
    learner = copy.deepcopy(learner)
    rows: list[dict[str, Any]] = []
    if train.examples:
        rows = _training(learner, train, train_source, device, precision, seconds, world)
    if not world.is_main:
        return []

    learner.eval()
    setting = test_source.setting
    examples = setting.examples

    def whole() -> None:
        evaluate(learner, test_source, eval_batch_size, eval_batch_size)

    rows.append(_phase("evaluate", whole, eval_batch_size, examples, device, seconds))
    episodes = to_float(test_source.draw(0, eval_batch_size))
    support, labels, queries = episodes.support_x, episodes.support_y, episodes.query_x
    asked = setting.groups * setting.queries or queries.shape[1]  # none if all others are queries
    with torch.no_grad():
        adapted = learner.adapt(support, labels)
        for phase, work, examples in (
            ("adapt", lambda: learner.adapt(support, labels), setting.groups * setting.shots),
            ("infer", lambda: learner.predict(adapted, queries), asked),
        ):
            rows.append(_phase(phase, work, eval_batch_size, examples, device, seconds))
    return rows


def _training(
    learner: Learner,
    train: Train,
    train_source: TaskSource,
    device: torch.device,
    precision: Precision,
    seconds: float,
    world: ProcessGroup,
) -> list[dict[str, Any]]:
    """Measure the phases of training, which change the learner; only the main process returns rows."""
    untouched = copy.deepcopy(learner)
    loop = OuterLoop(learner.train(), train_source, train, world)
    setting = train_source.setting
    examples = setting.examples
    first = itertools.count(0, train.meta_batch)

    def draw() -> None:
        to_float(loop.draw(next(first)))

    for _ in range(UNRECORDED_STEPS):
        loop.advance()
    tasks = train.meta_batch
    together = _phase("train", loop.advance, tasks, examples, device, seconds, world)
    if not world.is_main:
        return []
    rows = [_phase("draw", draw, len(loop.mine), examples, device, seconds), together]
    if world.size > 1:
        alone = OuterLoop(copy.deepcopy(untouched).train(), train_source, train)
        for _ in range(UNRECORDED_STEPS):
            alone.advance()
        rows.append(_phase("train_alone", alone.advance, tasks, examples, device, seconds))
        ideal = world.size * rows[-1]["tasks_per_s"]
        together["scaling_efficiency"] = together["tasks_per_s"] / ideal
    gflop, peak = gflop_per_task(learner, train_source), matmul_gflop_per_s(device, precision)
    speed = gflop * together["tasks_per_s"]
    share = speed / (world.size * peak)
    together |= {"gflop_per_task": gflop, "gflop_per_s": speed, "matmul_share": share}
    return rows


def gflop_per_task(learner: Learner, source: TaskSource) -> float:
    """Return the arithmetic of the outer gradient of one training task, in 10^9 operations.

    Matrix products and convolutions are counted, a multiply-add as two operations; elementwise work
    and the factorisations of MetaOptNet's solver are not. The learner is not changed.
    """
    learner = copy.deepcopy(learner).train()
    with FlopCounterMode(display=False) as counter:
        learner.meta_gradient(to_float(source.draw(0, 1)))
    result: float = counter.get_total_flops() / 1e9
    return result


def _enough(durations: list[float], seconds: float) -> bool:
    least = LEAST_SLOW_CALLS if sum(durations) >= SLOW_SECONDS else LEAST_CALLS
    return len(durations) >= least and sum(durations) >= seconds


def _phase(
    phase: str,
    work: Callable[[], object],
    tasks: int,
    examples: int,
    device: torch.device,
    seconds: float,
    world: ProcessGroup = SINGLE_PROCESS,
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
        block = max(1, *world.all_gather(round(BLOCK_SECONDS / timed(1))))
    durations: list[float] = []
    before = joules(device)
    while world.any_rank(not _enough(durations, seconds)):
        durations.append(timed(block))
    low, median, high = (each / block for each in quartiles(durations))
    row = {
        "phase": phase,
        "tasks_per_s": tasks / median,
        "examples_per_s": tasks * examples / median,
        "ms_median": 1e3 * median,
        "ms_iqr": 1e3 * (high - low),
        "tasks_per_call": tasks,
        "calls": block * len(durations),
        "peak_mib": peak_mib(device),
    }
    after = joules(device)
    counted = world.all_gather(None if before is None or after is None else after - before)
    if None not in counted:
        spent = sum(filter(None, counted))
        row["power_w"] = spent / sum(durations)
        row["joules_per_1000_tasks"] = 1e3 * spent / (tasks * block * len(durations))
    return row
