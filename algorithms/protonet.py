"""Prototypical networks: classify by the distance to the mean feature of each class.

Snell, Swersky, Zemel 2017 (arXiv 1703.05175). With features f, the prototype of class n is the mean
of f over its support images, and the logit of a query x for it is -||f(x) - prototype_n||^2.
Training on more ways than the test has is the paper's way to its best results.

As in the official code, support and query images pass the backbone together in training, and batch
norm uses its running statistics in evaluation, so that predictions are not transductive. The official
code has one task per step; of a meta-batch of several, each is normalised by its own images.
"""

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner


class ProtoNet(FeatureLearner):
    """Prototypical networks on any backbone; training ways may differ from test ways."""

    def __init__(self, backbone: Backbone, ways: int) -> None:
        super().__init__(backbone)

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[Tensor, Tensor]:
        """Prototypes [T, N, F] of the classes, with the support images for `predict`."""
        ways, shots = support_y.shape[1:]
        images = support_x.flatten(1, 2)
        return self.support_features(images).unflatten(1, (ways, shots)).mean(2), images

    def predict(self, adapted: tuple[Tensor, Tensor], query_x: Tensor) -> Tensor:
        """Minus the squared Euclidean distance of each query to each prototype."""
        prototypes, support_x = adapted
        return minus_squared_distance(self.query_features(support_x, query_x), prototypes)

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """As `adapt` and `predict`, with all images in one pass of the backbone where that may be."""
        if self.by_batches:
            return super().forward(support_x, support_y, query_x)
        ways, shots = support_y.shape[1:]
        features = self.backbone(torch.cat((support_x.flatten(1, 2), query_x), 1))
        support, query = features.tensor_split([ways * shots], dim=1)
        return minus_squared_distance(query, support.unflatten(1, (ways, shots)).mean(2))


def minus_squared_distance(queries: Tensor, centres: Tensor) -> Tensor:
    """-||q - c||^2 as [T, M, N] from queries [T, M, F] and centres [T, N, F]."""
    products = torch.bmm(queries, centres.mT)
    squares = queries.square().sum(-1, keepdim=True) + centres.square().sum(-1)[:, None]
    return 2 * products - squares
