"""Matching networks: classify a query by its attention to the support images.

Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016 (arXiv 1606.04080). With features f and the
cosine c, a query x attends to the support image s with weight a, and the logit of a class is the
logarithm of the total attention to its images,

    a(x, s) = softmax_s(scale * c(f(x), f(s))),     logit_n = log sum_{s of class n} a(x, s).

In the paper the scale is 1. Support and query images pass the backbone together in training, and
batch norm uses its running statistics in evaluation.

Differences: a feature depends on its image alone, without the paper's full context embeddings
(recurrent networks that read the whole support set); its tables report both. There is no official
code. That of Chen et al. 2019 (arXiv 1904.04232) has these embeddings, clips negative cosines and
multiplies by 100.
"""

import torch.nn.functional as F
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner


class MatchingNet(FeatureLearner):
    """Matching networks on any backbone; training and test ways may differ.

    ``scale`` is the factor of the cosines: with the paper's 1, the correct one of 20 classes gets
    an eighth of the attention even if all other cosines are 0, and learning is slow.
    """

    requires_classes = True

    def __init__(self, backbone: Backbone, ways: int, *, scale: float = 100.0) -> None:
        super().__init__(backbone)
        self.scale = scale

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """Return the support features, normalised and grouped by class: [T, N, K, F]."""
        result: Tensor = F.normalize(features, dim=-1).unflatten(1, support_y.shape[1:])
        return result

    def classify(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return the logarithm of each class's share of the attention."""
        cosines = F.normalize(features, dim=-1) @ fitted.flatten(1, 2).mT
        attention = F.log_softmax(self.scale * cosines, -1)
        result: Tensor = attention.unflatten(-1, fitted.shape[1:3]).logsumexp(-1)
        return result
