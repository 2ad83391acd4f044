"""Nearest neighbour: a query gets the target of the nearest support example.

Distances are Euclidean, between the features of a frozen backbone (scikit-learn's
``KNeighborsClassifier`` and ``KNeighborsRegressor`` with one neighbour). On the backbone ``pixels``,
whose features are the inputs themselves, it is a floor of regression that needs no training.
"""

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.learner import Learner
from algorithms.protonet import minus_squared_distance


class NearestNeighbor(Learner):
    """Nearest neighbour on a frozen backbone, without parameters to train."""

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features [T, S, F] and the encoded targets [T, S, N] of the support set."""
        features = self.backbone(support_x.flatten(1, 2))
        return features, self.loss.encode(support_y).to(features.dtype)

    def predict(self, adapted: tuple[Tensor, Tensor], query_x: Tensor) -> Tensor:
        """Return the targets of the nearest support examples; of classes, 1 for the right one."""
        features, targets = adapted
        nearest = minus_squared_distance(self.backbone(query_x), features).argmax(-1)
        places = nearest.unsqueeze(-1).expand(-1, -1, targets.shape[-1])
        return torch.gather(targets, 1, places)
