"""Conditional neural process: a network that reads the support set and answers.

Garnelo, Rosenbaum, Maddison et al. 2018, "Conditional Neural Processes" (arXiv 1807.01613). With the
features f(x) of an input, the support set becomes one vector, the mean over its examples,

    r = mean_s h([f(x_s), y_s]),        output = g([f(x), r]),

where h and g are networks of ReLU units. There is no inner loop: adaptation is one pass.

Differences: the paper's f is the identity, and here it is the backbone; the output is the prediction
alone, trained by the loss of the data, where the paper has a mean and a variance, trained by the
likelihood.
"""

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner
from algorithms.nn.layers import Linear


class CNP(FeatureLearner):
    """A conditional neural process on any backbone, with ``outputs`` outputs.

    ``hidden`` is the number of units of each layer of h and g, and of r.
    """

    requires_targets = True

    def __init__(self, backbone: Backbone, outputs: int, *, hidden: int = 128) -> None:
        super().__init__(backbone)
        features = backbone.num_features
        self.encoder = nn.Sequential(
            Linear(features + outputs, hidden), nn.ReLU(), Linear(hidden, hidden)
        )
        self.decoder = nn.Sequential(
            Linear(features + hidden, hidden),
            nn.ReLU(),
            Linear(hidden, hidden),
            nn.ReLU(),
            Linear(hidden, outputs),
        )

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """Return what the support set is to each task: [T, 1, hidden]."""
        targets = self.loss.encode(support_y).to(features.dtype)
        result: Tensor = self.encoder(torch.cat((features, targets), -1)).mean(1, keepdim=True)
        return result

    def classify(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return the outputs of query features, given the support set."""
        read = fitted.expand(-1, features.shape[1], -1)
        result: Tensor = self.decoder(torch.cat((features, read), -1))
        return result
