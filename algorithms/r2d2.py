"""R2D2: ridge regression on learned features, differentiated through its closed form.

Bertinetto, Henriques, Torr, Vedaldi 2019, "Meta-learning with differentiable closed-form solvers"
(arXiv 1805.08136). The rows of X are the features of the S = N*K support images, each with a 1
appended; those of Y are their one-hot labels, or the targets of a regression. With a learned scale
alpha, the logits (or predictions) of a query are

    alpha [f(query), 1] W,
    W = argmin ||X W - Y||^2 / S + lambda ||W||^2 = X'(XX' + lambda S I)^-1 Y.

The official code divides X and Y by sqrt(S), which is equivalent to the factor S of lambda;
MetaOptNet's ridge head has neither that factor nor the 1. As in the official code, support and
query images pass the backbone together in training, and batch norm uses its running statistics in
evaluation.

Differences: the paper learns lambda, alpha and a bias beta of all logits. The official scripts fix
lambda at 50, for thousands of features; the default here is for tens of them. If lambda is learned,
its logarithm is the parameter, so that it stays positive. There is no beta: a number added to all
logits of a query changes neither the softmax nor its loss. The code draws the number of shots of
each training episode (1 to 9); here it is fixed.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner
from algorithms.solvers.ridge import ridge


class R2D2(FeatureLearner):
    """R2D2 on any backbone; training and test shapes may differ.

    ``ridge_lambda`` is lambda, or its initial value with ``learn_lambda``; ``initial_scale`` is the
    initial value of the learned scale alpha. Raises ValueError if lambda is not positive.
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
        self.scale = nn.Parameter(torch.tensor(float(initial_scale)))

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """Return the weights W [T, F + 1, N] of the ridge regression."""
        targets = self.loss.encode(support_y)
        lam = self.log_lambda.double().exp() * targets.shape[1]
        return ridge(append_bias(features), targets, lam)

    def classify(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return the scaled predictions of the ridge regression."""
        return self.scale * (append_bias(features) @ fitted)


def append_bias(features: Tensor) -> Tensor:
    """Return features [T, B, F] with a 1 appended to each: [T, B, F + 1]."""
    return F.pad(features, (0, 1), value=1.0)
