"""Steady-state speed of a learner: training, adaptation, inference."""

import copy
import time
from collections.abc import Callable
from typing import Any

import torch

from algorithms.learner import Learner
from bench.config import Train
from bench.data.episodes import EpisodeSampler
from bench.device import peak_mib, reset_peak_memory, synchronize
from bench.evaluate import to_float
from bench.stats import quartiles
from bench.train import OuterLoop

WARM_UP_CALLS = 2
LEAST_CALLS = 7


def measure(
    learner: Learner,
    train: Train,
    train_sampler: EpisodeSampler,
    test_sampler: EpisodeSampler,
    at_once: int,
    device: torch.device,
    seconds: float,
) -> list[dict[str, Any]]:
    """One row a phase: tasks/s, images/s, ms per call (median, interquartile range), peak MiB.

    - ``train``: whole outer steps (draw episodes, outer gradient, optimizer) of ``meta_batch``
      tasks; images are those of support and queries;
    - ``adapt``: adapting to the support sets of ``at_once`` test episodes, images being theirs;
    - ``infer``: classifying the queries of adapted tasks, images being the queries.

    Each phase runs for about ``seconds`` after warm-up. The learner is copied, not changed.
    """
    learner = copy.deepcopy(learner).train()
    loop = OuterLoop(learner, train_sampler, train)
    shape = train_sampler.shape
    images = shape.ways * (shape.shots + shape.queries)
    rows = [_phase("train", loop.advance, train.meta_batch, images, device, seconds)]

    learner.eval()
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


def _phase(
    phase: str,
    work: Callable[[], object],
    tasks: int,
    images: int,
    device: torch.device,
    seconds: float,
) -> dict[str, Any]:
    reset_peak_memory(device)
    for _ in range(WARM_UP_CALLS):
        work()
    synchronize(device)
    durations: list[float] = []
    while len(durations) < LEAST_CALLS or sum(durations) < seconds:
        start = time.perf_counter()
        work()
        synchronize(device)
        durations.append(time.perf_counter() - start)
    low, median, high = quartiles(durations)
    return {
        "phase": phase,
        "tasks_per_s": tasks / median,
        "images_per_s": tasks * images / median,
        "ms_median": 1e3 * median,
        "ms_iqr": 1e3 * (high - low),
        "tasks_per_call": tasks,
        "calls": len(durations),
        "peak_mib": peak_mib(device),
    }
