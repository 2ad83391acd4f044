"""What the peers share: a loop over tasks, and a network that knows nothing of tasks."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.layers import Linear
from algorithms.learner import Episodes, Learner


class TaskLoop(Learner):
    """A learner that takes the tasks of a meta-batch one at a time."""

    def adapt(self, support_x: Tensor, support_y: Tensor) -> list[Any]:
        """What `adapt_one` makes of each task."""
        return [
            self.adapt_one(x.flatten(0, 1), y.flatten())
            for x, y in zip(support_x, support_y, strict=True)
        ]

    def predict(self, adapted: list[Any], query_x: Tensor) -> Tensor:
        """Logits [T, M, N] of the queries."""
        return torch.stack(
            [self.predict_one(task, x) for task, x in zip(adapted, query_x, strict=True)]
        )

    def adapt_one(self, support_x: Tensor, support_y: Tensor) -> Any:
        """Learn from one support set [N*K, C, H, W] with labels [N*K]."""
        raise NotImplementedError

    def predict_one(self, adapted: Any, query_x: Tensor) -> Tensor:
        """Logits [M, N] of the queries [M, C, H, W] of one task."""
        return adapted(query_x)

    def chunks(self, episodes: Episodes) -> Iterator[Episodes]:
        """The tasks one by one: each is differentiated before the next, as in the examples."""
        for task in range(len(episodes.support_x)):
            yield Episodes(*(part[task : task + 1] for part in episodes))


class Network(nn.Module):
    """A backbone with a linear head: images [B, C, H, W] of one task to logits [B, N].

    As in the examples, batch norm always uses the statistics of the batch; it keeps no others.
    """

    def __init__(self, backbone: Backbone, ways: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Linear(backbone.features, ways)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = module.running_var = module.num_batches_tracked = None

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone.one_task(x))
