"""Common parts of the peers: a loop over tasks, and a network without a task axis."""

from typing import Any

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.learner import Learner, TaskBatch
from algorithms.nn.layers import Linear


class TaskLoop(Learner):
    """A learner that processes the tasks of a meta-batch one at a time.

    Running statistics and the moments of an inner optimizer carry over from each task to the next.
    """

    requires_classes = True
    supports_cuda_graph = False
    supports_data_parallel = False

    def adapt(self, support_x: Tensor, support_y: Tensor) -> list[Any]:
        """Return the result of `adapt_one` for each task."""
        return [
            self.adapt_one(x.flatten(0, 1), y.flatten())
            for x, y in zip(support_x, support_y, strict=True)
        ]

    def predict(self, adapted: list[Any], query_x: Tensor) -> Tensor:
        """Return logits [T, M, N] of the queries."""
        return torch.stack(
            [self.predict_one(task, x) for task, x in zip(adapted, query_x, strict=True)]
        )

    def adapt_one(self, support_x: Tensor, support_y: Tensor) -> Any:
        """Learn from one support set [N*K, C, H, W] with labels [N*K]."""
        raise NotImplementedError

    def predict_one(self, adapted: Any, query_x: Tensor) -> Tensor:
        """Return logits [M, N] of the queries [M, C, H, W] of one task."""
        result: Tensor = adapted(query_x)
        return result

    def meta_gradient(self, episodes: TaskBatch) -> dict[str, Tensor]:
        """Add the outer gradient to ``.grad`` as `Learner` does, but task by task.

        Each task is differentiated before the next, as in the examples.
        """
        losses, scores = [], []
        for task in range(len(episodes.support_x)):
            x, y, queries, labels = (part[task : task + 1] for part in episodes[:4])
            logits = self(x, y, queries)
            loss = self.loss.mean(logits, labels) / len(episodes.support_x)
            loss.backward()
            losses.append(loss.detach())
            scores.append(self.loss.score(logits, labels))
        return {"loss": torch.stack(losses).sum(), "score": torch.cat(scores).mean()}


class Network(nn.Module):
    """A backbone with a linear head, from images [B, C, H, W] of one task to logits [B, N].

    As in the examples, batch norm always uses the statistics of the batch and keeps no running
    ones. Weights have the memory format of torch's own layers.
    """

    def __init__(self, backbone: Backbone, ways: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Linear(backbone.num_features, ways)
        self.to(memory_format=torch.contiguous_format)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images."""
        result: Tensor = self.head(self.backbone.forward_single_task(x))
        return result
