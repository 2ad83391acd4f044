"""R2D2: ridge regression on learned features, differentiated through its closed form.

Bertinetto, Henriques, Torr, Vedaldi 2019, "Meta-learning with differentiable closed-form solvers"
(arXiv 1805.08136). The features of the S = N*K support images, each with a 1 behind it, are the rows of
X, their one-hot labels those of Y. With a learned scale alpha, the logits of a query are

    alpha [f(query), 1] W,   W = argmin ||X W - Y||^2 / S + lambda ||W||^2 = X'(XX' + lambda S I)^-1 Y.

The official code divides X and Y by sqrt(S), which is what the S beside lambda says; that
MetaOptNet's ridge head has none, nor the 1. As in the official code, support and query images pass the
backbone together in training, and batch norm uses its running statistics in evaluation.

What differs: the paper learns lambda, alpha and a bias beta of all logits. The official scripts fix
lambda at 50, for thousands of features; the default here is for tens of them. Where it is learned, its
logarithm is, so that it stays positive. There is no beta: a number that is added to all logits of a
query changes neither the softmax nor its loss. The code draws the shots of a training episode anew
each time (1 to 9); here they are fixed.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner, one_hot
from algorithms.ridge import ridge


class R2D2(FeatureLearner):
    """R2D2 on any backbone; the shape of training episodes may differ from the test's.

    ``ridge_lambda`` is lambda, or with ``learn_lambda`` where it starts; ``initial_scale`` is where the
    learned scale alpha starts. Raises ValueError on a lambda that is not positive.
    """

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        ridge_lambda: float = 0.1,
        learn_lambda: bool = False,
        initial_scale: float = 10.0,
    ) -> None:
        super().__init__(backbone)
        if not ridge_lambda > 0:
            raise ValueError(f"ridge_lambda must be positive, not {ridge_lambda}")
        self.log_lambda = nn.Parameter(
            torch.tensor(math.log(ridge_lambda)), requires_grad=learn_lambda
        )
        self.scale = nn.Parameter(torch.tensor(initial_scale))

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """The weights W [T, F + 1, N] of the ridge regression."""
        lam = self.log_lambda.double().exp() * support_y[0].numel()
        return ridge(with_one(features), one_hot(support_y), lam)

    def classify(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Scaled predictions of the ridge regression."""
        return self.scale * (with_one(features) @ fitted)


def with_one(features: Tensor) -> Tensor:
    """Features [T, B, F] with a 1 behind each: [T, B, F + 1]."""
    return F.pad(features, (0, 1), value=1.0)
