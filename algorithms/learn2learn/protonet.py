"""Prototypical networks with ``learn2learn.nn.PrototypicalClassifier``, task by task.

The method is that of `algorithms.protonet`. The only difference is in the running statistics of
batch norm: here they are updated once per task, in ours once per meta-batch.
"""

import torch
from learn2learn.nn import PrototypicalClassifier
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.learn2learn.task_loop import TaskLoop


class ProtoNet(TaskLoop):
    """Prototypical networks on any backbone; training and test ways may differ."""

    def __init__(self, backbone: Backbone, ways: int) -> None:
        super().__init__()
        self.backbone = backbone

    def adapt_one(self, support_x: Tensor, support_y: Tensor) -> PrototypicalClassifier:
        """Return the classifier fitted to the features of the support set."""
        return PrototypicalClassifier(self.backbone.forward_single_task(support_x), support_y)

    def predict_one(self, adapted: PrototypicalClassifier, query_x: Tensor) -> Tensor:
        """Return minus the squared distance of each query to each prototype."""
        result: Tensor = adapted(self.backbone.forward_single_task(query_x))
        return result

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """Adapt and predict, with all images of a task in one pass of the backbone."""
        logits = []
        for x, y, queries in zip(support_x, support_y, query_x, strict=True):
            features = self.backbone.forward_single_task(torch.cat((x.flatten(0, 1), queries)))
            support, query = features.tensor_split([y.numel()])
            logits.append(PrototypicalClassifier(support, y.flatten())(query))
        return torch.stack(logits)
