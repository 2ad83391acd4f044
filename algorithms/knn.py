"""Nearest neighbours on the features of a frozen backbone."""

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.head import Head
from algorithms.protonet import minus_squared_distance

TINY = 1e-12
"""Squared distances below this count as this, so that one of zero has a weight."""


class NearestNeighbor(Head):
    """Nearest neighbours: the mean target of the ``neighbors`` nearest support examples.

    They are weighted by one over their Euclidean distance (scikit-learn's ``KNeighborsClassifier``
    and ``KNeighborsRegressor`` with ``weights="distance"``).
    """

    def __init__(self, backbone: Backbone, outputs: int, *, neighbors: int = 1) -> None:
        super().__init__(backbone, outputs)
        if neighbors < 1:
            raise ValueError(f"neighbors must be at least 1, not {neighbors}")
        self.neighbors = neighbors

    def fit(self, features: Tensor, support_y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features [T, S, F] and the encoded targets [T, S, N] of the support set."""
        return features, self.loss.encode(support_y).to(features.dtype)

    def classify(self, fitted: tuple[Tensor, Tensor], features: Tensor) -> Tensor:
        """Return the weighted mean target of each query's neighbours; of classes, their shares."""
        support, targets = fitted
        count = min(self.neighbors, support.shape[1])
        near = minus_squared_distance(features, support).topk(count, -1)
        weights = (-near.values).clamp(min=TINY).rsqrt()
        places = near.indices.flatten(1).unsqueeze(-1).expand(-1, -1, targets.shape[-1])
        found = torch.gather(targets, 1, places).unflatten(1, near.indices.shape[1:])
        result: Tensor = (found * (weights / weights.sum(-1, keepdim=True)).unsqueeze(-1)).sum(2)
        return result
