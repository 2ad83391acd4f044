"""Regression: a task is a function, its examples are points of it; good is a small squared error."""

from torch import Tensor

from algorithms.learner import Learner, Setting, TaskBatch
from algorithms.losses import SquaredError
from bench.tasks.base import MOST, Domain, Metric, Tasks, TaskSource
from bench.tasks.regression.pictures import fitted


class Regression(Domain):
    """Regression of D numbers, measured by the mean squared error of the queries.

    Runs are also tested with each of ``probed_shots``.
    """

    metric = Metric(
        name="mse",
        label="mean squared error",
        higher_is_better=False,
        low=0,
        scale="log",
    )
    has_classes = False
    probes_runs = True

    def __init__(self, probed_shots: tuple[int, ...] = Domain.probed_shots) -> None:
        self.probed_shots = probed_shots

    def loss(self, label_smoothing: float = 0.0) -> SquaredError:
        """Return the squared error."""
        if label_smoothing:
            raise ValueError("regression has no labels to be smoothed")
        return SquaredError()

    def outputs(self, setting: Setting, targets: Tensor | None) -> int:
        """Return the dimensions of the targets."""
        assert targets is not None
        return targets.shape[1]

    def evaluate(self, learner: Learner, batch: TaskBatch, tasks: Tasks) -> dict[str, Tensor]:
        """Return the mean squared error of the queries of each task.

        A task on which the learner diverges, to NaN or infinity, has the largest possible error.
        """
        outputs = learner(batch.support_x, batch.support_y, batch.query_x)
        errors = SquaredError().score(outputs.cpu().double(), batch.query_y.cpu().double())
        return {"score": errors.nan_to_num(MOST, MOST).clamp(max=MOST)}

    def files(
        self, learner: Learner, source: TaskSource, tested: dict[str, Tensor]
    ) -> dict[str, str]:
        """Return ``functions.csv``, functions of one number and what the learner makes of them."""
        functions = fitted(learner, source)
        return {} if functions.empty else {"functions.csv": functions.to_csv(index=False)}
