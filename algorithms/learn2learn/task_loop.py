"""What the peers share: a loop over tasks, and a network that knows nothing of tasks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.layers import Linear
from algorithms.learner import Episodes, Learner, accuracy


class TaskLoop(Learner):
    """A learner that takes the tasks of a meta-batch one at a time.

    Running statistics, and moments of an inner optimizer, go from each task to the next.
    """

    recordable = False
    divisible = False

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

    def meta_gradient(self, episodes: Episodes) -> dict[str, Tensor]:
        """As ours, but each task is differentiated before the next, as in the examples."""
        losses, accuracies = [], []
        for task in range(len(episodes.support_x)):
            x, y, queries, labels = (part[task : task + 1] for part in episodes[:4])
            logits = self(x, y, queries)
            loss = F.cross_entropy(logits[0], labels[0]) / len(episodes.support_x)
            loss.backward()
            losses.append(loss.detach())
            accuracies.append(accuracy(logits, labels))
        return {"loss": torch.stack(losses).sum(), "accuracy": torch.cat(accuracies).mean()}


class Network(nn.Module):
    """A backbone with a linear head: images [B, C, H, W] of one task to logits [B, N].

    As in the examples, batch norm always uses the statistics of the batch; it keeps no others. Weights
    lie in memory as torch's own layers have them.
    """

    def __init__(self, backbone: Backbone, ways: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Linear(backbone.features, ways)
        self.to(memory_format=torch.contiguous_format)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = module.running_var = module.num_batches_tracked = None

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone.one_task(x))
