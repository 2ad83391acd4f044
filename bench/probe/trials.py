"""The trials of one stored run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from algorithms.learner import Learner, Shape
from bench import cell as cells
from bench.data.episodes import EpisodeSampler
from bench.evaluate import evaluate
from bench.stats import mean_ci95

STEPS = (1, 2, 3, 5, 10, 20, 50)
SHOTS = (1, 2, 3, 5, 10, 15, 20)
WAYS = (2, 3, 5, 10, 15, 20)
QUERIES = 5
"""Queries per class where shots or ways vary: few, so that more images are left to learn from."""


class Trial(NamedTuple):
    """One evaluation: what was varied, to which value, and how it went."""

    varied: str
    value: str
    queries: int
    episodes: int
    accuracy: float
    ci95: float


def probe(cell: cells.Cell, checkpoint: dict[str, Any], episodes: int) -> Iterator[Trial]:
    """All trials of one run; the learner is that of the checkpoint throughout."""
    learner = trained(cell, checkpoint)
    pool = cell.dataset.splits["test"].to(cell.device)

    def trial(varied: str, value: str | int, shape: Shape) -> Trial:
        sampler = EpisodeSampler(pool, shape, (cell.dataset.digest, "test", "test"))
        at_once = cells.EVALUATED_AT_ONCE[cell.device.type]
        tested = evaluate(learner, sampler, episodes, at_once)
        return Trial(varied, str(value), shape.queries, episodes, *mean_ci95(tested.accuracy))

    shape = cell.test_shape
    for statistics in learner.statistics_choices:
        with changed(learner, "statistics", statistics):
            yield trial("statistics", statistics, shape)
    if learner.test_inner_steps:
        for steps in STEPS:
            with changed(learner, "test_inner_steps", steps):
                yield trial("steps", steps, shape)
    few = shape._replace(queries=min(QUERIES, shape.queries))
    for shots in SHOTS:
        if shots + few.queries <= int(pool.sizes.min()):
            yield trial("shots", shots, few._replace(shots=shots))
    if learner.any_ways:
        for ways in WAYS:
            if ways <= len(pool.choices):
                yield trial("ways", ways, few._replace(ways=ways))


def trained(cell: cells.Cell, checkpoint: dict[str, Any]) -> Learner:
    """The learner of a run with its chosen parameters, on the run's device."""
    learner = cells.build_learner(cell.config, cell.dataset, cell.train_shape.ways).to(cell.device)
    learner.load_state_dict(checkpoint)
    cells.use_arithmetic(cell.config, learner)
    return learner


@contextmanager
def changed(learner: Learner, name: str, value: object) -> Iterator[None]:
    """An attribute of the learner has another value for a while."""
    before = getattr(learner, name)
    setattr(learner, name, value)
    try:
        yield
    finally:
        setattr(learner, name, before)
