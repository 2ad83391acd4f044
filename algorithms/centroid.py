"""Nearest centroid of the features of a frozen backbone."""

import torch
import torch.nn.functional as F
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.head import Head
from algorithms.protonet import minus_squared_distance


class NearestCentroid(Head):
    """Nearest centroid: a query gets the class whose support examples have the nearest mean.

    The distance is Euclidean (scikit-learn's ``NearestCentroid``). With ``center``, the mean of the
    support set is subtracted from all features, which are then scaled to unit length: CL2N of
    Wang et al. 2019 (SimpleShot, arXiv 1911.04623), which takes the mean over the training classes.
    """

    requires_classes = True

    def __init__(self, backbone: Backbone, ways: int, *, center: bool = False) -> None:
        super().__init__(backbone, ways)
        self.center = center

    def fit(self, features: Tensor, support_y: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the mean [T, 1, F] that is subtracted, if any, and the means [T, N, F] of classes."""
        middle = features.mean(1, keepdim=True) if self.center else None
        support = placed(features, middle)
        if support_y.ndim == 3:
            return middle, support.unflatten(1, support_y.shape[1:]).mean(2)
        classes = support.split(support_y[0].bincount().tolist(), 1)
        return middle, torch.stack([each.mean(1) for each in classes], 1)

    def classify(self, fitted: tuple[Tensor | None, Tensor], features: Tensor) -> Tensor:
        """Return minus the squared distance of each query to each mean."""
        middle, centroids = fitted
        return minus_squared_distance(placed(features, middle), centroids)


def placed(features: Tensor, middle: Tensor | None) -> Tensor:
    """Return features of unit length around a mean, or as they are without one."""
    return features if middle is None else F.normalize(features - middle, dim=-1)
