"""Evaluations of one stored run under varied test conditions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from algorithms.learner import Learner, Setting
from bench.engine.evaluate import evaluate
from bench.runs import cell as cells
from bench.tasks.episodes import LEAST_QUERIES, episodes_of, most_ways

SHOTS_OF_PHOTOS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80)
"""Shots where all other examples are queries; up to two thirds of them, so that there are enough."""
DRAWS = 100
"""Tasks of these: more make a score little more certain, which other photographs would change more."""
WAYS = (2, 3, 5, 10, 15, 20)
QUERIES = 5
"""Queries per class if shots or ways vary: few, so that more images are left for the support set."""


class Trial(NamedTuple):
    """One evaluation: the varied setting, its value and the result."""

    varied: str
    value: str
    queries: int
    episodes: int
    score: float
    ci95: float


def probe(cell: cells.Cell, checkpoint: dict[str, Any], episodes: int) -> Iterator[Trial]:
    """Yield all evaluations of one run; the learner is always that of the checkpoint."""
    learner = trained(cell, checkpoint)
    pool = cell.dataset.splits["test"]

    def trial(varied: str, value: str | int, setting: Setting) -> Trial:
        source = episodes_of(cell.dataset, "test", setting, cell.device, "test")
        eval_batch_size = cells.EVAL_BATCH_SIZE[cell.device.type]
        tested = evaluate(learner, source, episodes, eval_batch_size)
        return Trial(varied, str(value), setting.queries, episodes, *source.domain.interval(tested))

    setting = cell.test_setting
    if cell.dataset.domain.tests_all:
        episodes = min(episodes, DRAWS)
        for shots in SHOTS_OF_PHOTOS:
            least = int(pool.sizes.min())
            if 3 * shots <= 2 * least and shots <= least - LEAST_QUERIES:
                yield trial("shots", shots, setting._replace(shots=shots))
        return
    for statistics in learner.norm_statistics_choices if learner.has_batch_norm else ():
        with changed(learner, "norm_statistics", statistics):
            yield trial("norm_statistics", statistics, setting)
    if learner.test_inner_steps:
        for steps in cell.dataset.domain.probed_steps:
            with changed(learner, "test_inner_steps", steps):
                yield trial("steps", steps, setting)
    few = setting._replace(queries=min(QUERIES, setting.queries))
    for shots in cell.dataset.domain.probed_shots:
        if shots + few.queries <= int(pool.sizes.min()):
            yield trial("shots", shots, few._replace(shots=shots))
    if learner.accepts_any_ways and setting.ways:
        for ways in WAYS:
            if ways <= most_ways(pool):
                yield trial("ways", ways, few._replace(ways=ways))


def trained(cell: cells.Cell, checkpoint: dict[str, Any]) -> Learner:
    """Return the learner of a run with its selected parameters, on the run's device."""
    learner = cells.build_learner(cell.config, cell.dataset, cell.train_setting).to(cell.device)
    learner.load_state_dict(checkpoint)
    cells.use_arithmetic(cell.config, learner)
    return learner


@contextmanager
def changed(learner: Learner, name: str, value: object) -> Iterator[None]:
    """Set an attribute of the learner to another value within the context."""
    before = getattr(learner, name)
    setattr(learner, name, value)
    try:
        yield
    finally:
        setattr(learner, name, before)
