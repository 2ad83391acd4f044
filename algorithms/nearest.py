"""Nearest centroid: what comparing features achieves without any training.

A query gets the class whose support images have the nearest mean, by the Euclidean distance of the
unmodified features (scikit-learn's ``NearestCentroid``). On the backbone ``pixels`` the features
are the pixels: a floor that any learner should clearly exceed.
"""

from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.learner import Learner
from algorithms.protonet import minus_squared_distance


class NearestCentroid(Learner):
    """Nearest centroid on a frozen backbone, without parameters to train."""

    requires_classes = True

    def __init__(self, backbone: Backbone, ways: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)

    def adapt(self, support_x: Tensor, support_y: Tensor) -> Tensor:
        """Return the mean features [T, N, F] of the classes."""
        features = self.backbone(support_x.flatten(1, 2))
        result: Tensor = features.unflatten(1, support_y.shape[1:]).mean(2)
        return result

    def predict(self, adapted: Tensor, query_x: Tensor) -> Tensor:
        """Return minus the squared distance of each query to each mean."""
        return minus_squared_distance(self.backbone(query_x), adapted)
