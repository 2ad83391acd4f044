"""Prototypical networks by ``learn2learn.nn.PrototypicalClassifier``, one task at a time.

The method is that of `algorithms.protonet`. Only the running statistics of batch norm move otherwise:
here once a task, in ours once a meta-batch.
"""

import torch
from learn2learn.nn import PrototypicalClassifier
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.learn2learn.task_loop import TaskLoop


class ProtoNet(TaskLoop):
    """Prototypical networks on any backbone; training ways may differ from test ways."""

    def __init__(self, backbone: Backbone, ways: int) -> None:
        super().__init__()
        self.backbone = backbone

    def adapt_one(self, support_x: Tensor, support_y: Tensor) -> PrototypicalClassifier:
        """The classifier fitted to the features of the support set."""
        return PrototypicalClassifier(self.backbone.one_task(support_x), support_y)

    def predict_one(self, adapted: PrototypicalClassifier, query_x: Tensor) -> Tensor:
        """Minus the squared distance of each query to each prototype."""
        return adapted(self.backbone.one_task(query_x))

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """As `adapt` and `predict`, with all images of a task in one pass of the backbone."""
        logits = []
        for x, y, queries in zip(support_x, support_y, query_x, strict=True):
            features = self.backbone.one_task(torch.cat((x.flatten(0, 1), queries)))
            support, query = features.tensor_split([y.numel()])
            logits.append(PrototypicalClassifier(support, y.flatten())(query))
        return torch.stack(logits)
