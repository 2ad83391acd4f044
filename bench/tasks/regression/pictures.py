"""What a learner makes of single functions, for figures."""

import pandas as pd
import torch
from torch import Tensor

from algorithms.learner import Learner
from bench.tasks.base import TaskSource

FUNCTIONS = 4
COLUMNS = ("task", "part", "x", "y", "before", "after")


@torch.no_grad()
def fitted(learner: Learner, source: TaskSource) -> pd.DataFrame:
    """Return the points of the first test functions of one number, with what the learner predicts.

    ``part`` is support or query, ``y`` the target, ``after`` the prediction after adaptation, and
    ``before`` that without any inner step, missing for learners without an inner loop. Empty if
    inputs or targets are more than one number.
    """
    batch = source.draw(0, FUNCTIONS)
    if batch.query_x.shape[2:] != (1,) or batch.query_y.shape[2:] != (1,):
        return pd.DataFrame(columns=COLUMNS)
    x = torch.cat((batch.support_x.flatten(1, 2), batch.query_x), 1)
    y = torch.cat((batch.support_y.flatten(1, 2), batch.query_y), 1)
    training, steps = learner.training, learner.test_inner_steps
    learner.eval()
    after, before = learner(batch.support_x, batch.support_y, x), None
    if steps:
        learner.test_inner_steps = 0
        before = learner(batch.support_x, batch.support_y, x)
        learner.test_inner_steps = steps
    learner.train(training)
    shots, points = batch.support_x.shape[2], x.shape[1]

    def column(values: Tensor | None) -> list[float] | None:
        return None if values is None else values.cpu().flatten().tolist()

    return pd.DataFrame(
        {
            "task": [task for task in range(FUNCTIONS) for _ in range(points)],
            "part": FUNCTIONS * (shots * ["support"] + (points - shots) * ["query"]),
            "x": column(x),
            "y": column(y),
            "before": column(before),
            "after": column(after),
        },
        columns=COLUMNS,
    )
