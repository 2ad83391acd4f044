"""Nearest class by cosine, with a learned temperature.

Chen, Liu, Xu, Darrell, Wang 2021, "Meta-Baseline" (arXiv 2003.04390), the stage of meta-learning alone.
With features f and the centre c_n, the mean of f over the support images of class n, the logit of a
query x for class n is tau * cos(f(x), c_n); tau is learned, and starts at 10.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner


class Cosine(FeatureLearner):
    """Nearest centre by cosine on any backbone; training ways may differ from test ways."""

    def __init__(self, backbone: Backbone, ways: int, *, temperature: float = 10.0) -> None:
        super().__init__(backbone)
        self.temperature = nn.Parameter(torch.tensor(float(temperature)))

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """Return the directions [T, N, F] of the centres of the classes."""
        return F.normalize(features.unflatten(1, support_y.shape[1:]).mean(2), dim=-1)

    def classify(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return the cosine of each query with each centre, times the temperature."""
        return self.temperature * F.normalize(features, dim=-1) @ fitted.mT
