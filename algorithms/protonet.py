"""Prototypical networks: classify by the distance to the mean feature of each class.

Snell, Swersky, Zemel 2017 (arXiv 1703.05175). With features f, the prototype of class n is the mean
of f over its support images, and the logit of a query x for it is -||f(x) - prototype_n||^2. The
paper gets its best results by training on more ways than the test has.

MetaOptNet's official code (Lee et al. 2019, arXiv 1904.03758) divides the distance by the number of
features and multiplies it by a learned scale: with thousands of features it is too large for SGD at
learning rate 0.1.

As in the official code, support and query images pass the backbone together in training, and batch
norm uses its running statistics in evaluation, so that predictions are not transductive. The
official code has one task per step; in a meta-batch of several, each is normalised by its own
images.
"""

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner


class ProtoNet(FeatureLearner):
    """Prototypical networks on any backbone; training and test ways may differ.

    With an ``initial_scale``, distances are means over features, multiplied by a learned scale that
    starts at this value; None is the rule of Snell et al.
    """

    requires_classes = True

    def __init__(
        self, backbone: Backbone, ways: int, *, initial_scale: float | None = None
    ) -> None:
        super().__init__(backbone)
        self.scale = (
            None if initial_scale is None else nn.Parameter(torch.tensor(float(initial_scale)))
        )

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """Return the prototypes [T, N, F] of the classes."""
        result: Tensor = features.unflatten(1, support_y.shape[1:]).mean(2)
        return result

    def classify(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return minus the squared Euclidean distance of each query to each prototype.

        It is scaled if there is an ``initial_scale``.
        """
        logits = minus_squared_distance(features, fitted)
        return logits if self.scale is None else self.scale * logits / features.shape[-1]


def minus_squared_distance(queries: Tensor, centres: Tensor) -> Tensor:
    """Return -||q - c||^2 as [T, M, N] from queries [T, M, F] and centres [T, N, F]."""
    products = torch.bmm(queries, centres.mT)
    squares = queries.square().sum(-1, keepdim=True) + centres.square().sum(-1)[:, None]
    return 2 * products - squares
