"""Laws of the domain of every data set: its loss, its metric and its evaluation fit together.

A law is a function of a `Scored` that raises AssertionError with a sentence.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from algorithms.learner import Learner, TaskBatch
from bench.check.laws import NotApplicableError, require, require_same
from bench.tasks.base import Domain, Tasks

TASKS = 4


class Scored(NamedTuple):
    """A domain and test tasks of its data, whose queries are their support sets."""

    domain: Domain
    batch: TaskBatch

    @classmethod
    def of(cls, domain: Domain, batch: TaskBatch) -> "Scored":
        """Return the tasks of a batch with their support sets as queries."""
        query_x, query_y = batch.support_x.flatten(1, 2), batch.support_y.flatten(1, 2)
        return cls(domain, batch._replace(query_x=query_x, query_y=query_y))

    def outputs(self) -> Tensor:
        """Return the outputs that are right; raise NotApplicableError if there are none."""
        if self.domain.by_acting:
            raise NotApplicableError("learners act, and no outputs are right")
        return self.domain.loss().encode(self.batch.support_y).double()

    def score(self, outputs: Tensor, batch: TaskBatch | None = None) -> Tensor:
        """Return the score [T] of a learner with these outputs.

        Raises NotApplicableError where what a policy does is scored, and not its outputs.
        """
        if not self.domain.scores_outputs:
            raise NotApplicableError("what a policy does is scored, and not its outputs")
        tasks = Tasks(torch.arange(len(outputs)), None)
        return self.domain.evaluate(Told(outputs), batch or self.batch, tasks)["score"]


class Told(Learner):
    """A learner that answers what it was told."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def adapt(self, support_x: Tensor, support_y: Tensor) -> None:
        """Learn nothing."""

    def predict(self, adapted: None, query_x: Tensor) -> Tensor:
        """Return the outputs."""
        return self.outputs


Law = Callable[[Scored], None]


def right_outputs_score_best(given: Scored) -> None:
    """The outputs that a closed-form head fits have a better score, and a smaller loss, than others."""
    right, loss, metric = given.outputs(), given.domain.loss(), given.domain.metric
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(0)).double()
    wrong = right.flip(1) + noise * right.std()
    good, bad = given.score(right).mean().item(), given.score(wrong).mean().item()
    require(metric.is_better(good, bad), f"right outputs have {good:g}, wrong ones {bad:g}")
    small, large = (loss.mean(each, given.batch.query_y) for each in (right, wrong))
    require(small < large, f"right outputs have a loss of {small:g}, wrong ones of {large:g}")


def scores_are_of_the_metric(given: Scored) -> None:
    """Each task has a score within the bounds of the metric, a float64 number on the CPU."""
    score = given.score(given.outputs())
    wanted = torch.empty(TASKS, dtype=torch.float64)
    same = (score.shape, score.dtype, score.device) == (wanted.shape, wanted.dtype, wanted.device)
    require(same, f"scores are {list(score.shape)}, {score.dtype} on {score.device}")
    metric = given.domain.metric
    require(all(map(metric.contains, score.tolist())), f"{score.tolist()} are not of its bounds")


def tasks_are_scored_by_themselves(given: Scored) -> None:
    """A task has the same score by itself as among others."""
    outputs = given.outputs().flip(1)
    together = given.score(outputs)
    for task in range(TASKS):
        alone = TaskBatch(*(part[task : task + 1] for part in given.batch))
        require_same(
            given.score(outputs[task : task + 1], alone)[0], together[task], "it is another"
        )


def the_order_of_queries_does_not_matter(given: Scored) -> None:
    """Queries in another order, with their outputs, have the same score."""
    outputs, batch = given.outputs(), given.batch
    turned = batch._replace(query_x=batch.query_x.flip(1), query_y=batch.query_y.flip(1))
    require_same(given.score(outputs.flip(1), turned), given.score(outputs), "it is another")


def the_loss_is_of_each_example(given: Scored) -> None:
    """The loss is a number for each example, whose mean is the outer loss."""
    outputs, targets, loss = given.outputs(), given.batch.query_y, given.domain.loss()
    found = loss(outputs, targets)
    shape = list(found.shape)
    require(shape == list(outputs.shape[:2]), f"it is {shape} for outputs {list(outputs.shape)}")
    require_same(loss.mean(outputs, targets), found.mean(), "the outer loss is another")


LAWS: tuple[Law, ...] = (
    right_outputs_score_best,
    scores_are_of_the_metric,
    tasks_are_scored_by_themselves,
    the_order_of_queries_does_not_matter,
    the_loss_is_of_each_example,
)
