"""Imitation: the support set is demonstrations, and good is success when the policy acts itself."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from torch import Tensor

from algorithms.learner import Learner, Setting, TaskBatch
from algorithms.losses import SquaredError
from bench.tasks.base import MOST, Domain, Metric, Tasks

Policy = Callable[[Tensor], Tensor]
"""A function from observations [T, B, O] of B rollouts of T tasks to actions [T, B, A]."""


class Environment(Protocol):
    """Where policies are let loose; it knows the parameters of tasks that no learner sees."""

    def rollouts(self, policy: Policy, tasks: Tasks) -> dict[str, Tensor]:
        """Return numbers [T] of rollouts of a policy in each task: at least ``score``.

        Starts and noise are a function of the numbers of the tasks, and of nothing else.
        """


class Imitation(Domain):
    """Behaviour cloning from K demonstrations, measured by rollouts of the cloned policy.

    An example is a demonstration: observations [H, O] and the expert's actions [H, A]. Learners see
    the single steps of demonstrations, as regression of actions; shots are demonstrations.
    """

    metric = Metric(name="success", label="success rate", unit="%", low=0, high=100)
    has_classes = False
    scores_outputs = False
    probes_runs = True
    probed_steps = (0, 1, 2, 3, 5, 10)
    probed_shots = (1, 2, 5)

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def loss(self, label_smoothing: float = 0.0) -> SquaredError:
        """Return the squared error of actions."""
        if label_smoothing:
            raise ValueError("imitation has no labels to be smoothed")
        return SquaredError()

    def outputs(self, setting: Setting, targets: Tensor | None) -> int:
        """Return the dimensions of an action."""
        assert targets is not None
        return targets.shape[-1]

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an observation."""
        return shape[1:]

    def arrange(self, batch: TaskBatch) -> TaskBatch:
        """Return tasks of single steps, given those of whole demonstrations."""
        return batch._replace(
            support_x=batch.support_x.flatten(2, 3),
            support_y=batch.support_y.flatten(2, 3),
            query_x=batch.query_x.flatten(1, 2),
            query_y=batch.query_y.flatten(1, 2),
        )

    def evaluate(self, learner: Learner, batch: TaskBatch, tasks: Tasks) -> dict[str, Tensor]:
        """Return what the policies achieve, and ``cloning``, their squared error on the queries.

        A policy that gives NaN or infinity fails from then on, as one that does nothing does.
        """
        policy = partial(learner.predict, learner.adapt(batch.support_x, batch.support_y))
        errors = SquaredError().score(policy(batch.query_x).cpu().double(), batch.query_y.cpu())
        found = self.environment.rollouts(policy, tasks)
        cloning = errors.nan_to_num(MOST, MOST).clamp(max=MOST)
        return {key: x.cpu().double() for key, x in found.items()} | {"cloning": cloning}

    def summary(self, scores: dict[str, Tensor]) -> dict[str, float]:
        """Return the means of all numbers beside the score."""
        means = {key: x.mean().item() for key, x in scores.items() if x.is_floating_point()}
        return {key: mean for key, mean in means.items() if key != "score"}
