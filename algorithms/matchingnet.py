"""Matching networks: a query has the classes of the support images, weighted by attention to them.

Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016 (arXiv 1606.04080). With features f and the
cosine c, a query x attends to the support image s with the weight a, and the logit of a class is the
logarithm of its images' share,

    a(x, s) = softmax_s(scale * c(f(x), f(s))),     logit_n = log sum_{s of class n} a(x, s).

In the paper the scale is 1. Support and query images pass the backbone together in training, and
batch norm uses its running statistics in evaluation.

What differs: features are those of the image alone, without the paper's full context embeddings
(recurrent networks that look at the whole support set); its tables have both. There is no official
code. That of Chen et al. 2019 (arXiv 1904.04232) has these embeddings, cuts negative cosines off and
multiplies by 100.
"""

import torch.nn.functional as F
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner


class MatchingNet(FeatureLearner):
    """Matching networks on any backbone; training ways may differ from test ways.

    ``scale`` is what cosines are multiplied by: with the paper's 1, the right one of 20 classes has
    an eighth of the attention even where all other cosines are 0, and learning is slow.
    """

    def __init__(self, backbone: Backbone, ways: int, *, scale: float = 100.0) -> None:
        super().__init__(backbone)
        self.scale = scale

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """The support features of length 1, class by class: [T, N, K, F]."""
        return F.normalize(features, dim=-1).unflatten(1, support_y.shape[1:])

    def classify(self, fitted: Tensor, features: Tensor) -> Tensor:
        """The logarithm of each class's share of the attention."""
        cosines = F.normalize(features, dim=-1) @ fitted.flatten(1, 2).mT
        attention = F.log_softmax(self.scale * cosines, -1)
        return attention.unflatten(-1, fitted.shape[1:3]).logsumexp(-1)
