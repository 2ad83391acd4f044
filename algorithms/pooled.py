"""One network for all tasks: what is achieved without adaptation.

The network is trained on the examples of all tasks together, and its support set is ignored. What a
learner that adapts has above it is what it learned from the support set.
"""

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.classifier import Classifier
from algorithms.learner import Learner, TaskBatch
from algorithms.nn.layers import BatchNorm2d


class Pooled(Learner):
    """A backbone with a linear head of ``outputs`` units, the same for every task.

    Raises ValueError for a backbone with batch norm.
    """

    requires_targets = True

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        if any(isinstance(module, BatchNorm2d) for module in backbone.modules()):
            raise ValueError(
                "it has no support set to normalise by: choose a backbone without batch norm, such as mlp"
            )
        self.network = Classifier(backbone, outputs)

    def adapt(self, support_x: Tensor, support_y: Tensor) -> None:
        """Learn nothing."""

    def predict(self, adapted: None, query_x: Tensor) -> Tensor:
        """Return the outputs of the queries, the same for all tasks."""
        result: Tensor = self.network(query_x)
        return result

    def outer(self, episodes: TaskBatch) -> tuple[Tensor, Tensor]:
        """Return outputs and targets of all examples of the tasks, support and query."""
        x = torch.cat((episodes.support_x.flatten(1, 2), episodes.query_x), 1)
        return self.network(x), torch.cat((episodes.support_y.flatten(1, 2), episodes.query_y), 1)
