"""Reinforcement: a policy improves by its own trajectories, and good is the return."""

from torch import Tensor

from algorithms.learner import Learner, Setting, TaskBatch
from algorithms.reinforcement import Environment, PolicyGradient
from bench.tasks.base import MOST, Domain, Metric, Tasks


class Reinforcement(Domain):
    """Returns of a policy that has improved by K trajectories of its own a step.

    An example is a trajectory to be made: the parameters of its task, and its number, which start and
    noise are a function of. So trajectories are numbered, as all other tasks and examples are.
    """

    metric = Metric(name="return", label="return")
    has_classes = False
    by_acting = True
    scores_outputs = False
    probes_runs = True
    probed_steps = (0, 1, 2, 3)
    probed_shots = (5, 10)

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def loss(self, label_smoothing: float = 0.0) -> PolicyGradient:
        """Return the policy gradient in the environment."""
        if label_smoothing:
            raise ValueError("a return has no labels to be smoothed")
        return PolicyGradient(self.environment)

    def outputs(self, setting: Setting, targets: Tensor | None) -> int:
        """Return the dimensions of an action."""
        return self.environment.actions

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an observation."""
        return (self.environment.observations,)

    def evaluate(self, learner: Learner, batch: TaskBatch, tasks: Tasks) -> dict[str, Tensor]:
        """Return the mean return of the queries of each task; NaN and infinity are the worst."""
        returns = learner(batch.support_x, batch.support_y, batch.query_x).cpu().double()
        return {"score": returns.mean((1, 2)).nan_to_num(-MOST, MOST, -MOST)}
