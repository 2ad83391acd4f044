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

    def fit(self, features: Tensor, support_y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean [T, 1, F] that is subtracted, and the means [T, N, F] of the classes."""
        middle = (
            features.mean(1, keepdim=True) if self.center else torch.zeros_like(features[:, :1])
        )
        placed = self.place(features, middle)
        return middle, placed.unflatten(1, support_y.shape[1:]).mean(2)

    def classify(self, fitted: tuple[Tensor, Tensor], features: Tensor) -> Tensor:
        """Return minus the squared distance of each query to each mean."""
        middle, centroids = fitted
        return minus_squared_distance(self.place(features, middle), centroids)

    def place(self, features: Tensor, middle: Tensor) -> Tensor:
        """Return features relative to the mean, of unit length, if they are to be centred."""
        return F.normalize(features - middle, dim=-1) if self.center else features
