"""Attention to the support set: the target of a query is a weighted mean of those that are given.

For regression this is what matching networks (Vinyals et al. 2016, arXiv 1606.04080) are for
classification, and Nadaraya-Watson kernel regression on learned features: with a learned scale s,

    output = sum_i a_i y_i,     a = softmax_i(-s |f(x) - f(x_i)|^2 / F).
"""

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner
from algorithms.protonet import minus_squared_distance


class Attention(FeatureLearner):
    """Kernel regression on the features of any backbone; for classes, there is the matching network.

    ``initial_scale`` is the initial value of the learned scale s, whose logarithm is the parameter.
    """

    requires_targets = True

    def __init__(self, backbone: Backbone, outputs: int, *, initial_scale: float = 1.0) -> None:
        super().__init__(backbone)
        self.log_scale = nn.Parameter(torch.tensor(initial_scale).log())

    def fit(self, features: Tensor, support_y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features [T, S, F] and the encoded targets [T, S, N] of the support set."""
        return features, self.loss.encode(support_y).to(features.dtype)

    def classify(self, fitted: tuple[Tensor, Tensor], features: Tensor) -> Tensor:
        """Return the mean target of the support set under the attention of each query."""
        support, targets = fitted
        near = minus_squared_distance(features, support) / features.shape[-1]
        return (self.log_scale.exp() * near).softmax(-1) @ targets
