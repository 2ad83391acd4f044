"""Logistic regression on the features of a frozen backbone."""

import numpy as np
import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.head import Head
from algorithms.r2d2 import append_bias


class LogisticRegression(Head):
    """Multinomial logistic regression by scikit-learn, on the CPU, one task after the other.

    It minimises cross-entropy + ||W||^2 / (2 c), W without the bias. The minimum lies in the span
    of the support features, so that it is found in coordinates of that span, S instead of F.
    """

    requires_classes = True

    def __init__(
        self, backbone: Backbone, ways: int, *, c: float = 1.0, max_iter: int = 1000
    ) -> None:
        super().__init__(backbone, ways)
        self.c = c
        self.max_iter = max_iter

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """Return weights and bias [T, N, F + 1] of each class."""
        # imported late: it takes a second
        from sklearn.linear_model import LogisticRegression as Estimator

        estimator = Estimator(C=self.c, max_iter=self.max_iter, tol=1e-5)
        labels = support_y.flatten(1).cpu().numpy()
        heads = []
        for task, targets in zip(features.detach().cpu().double(), labels, strict=True):
            basis, coordinates = torch.linalg.qr(task.mT)  # task = coordinates' basis'
            found = estimator.fit(coordinates.mT.numpy(), targets)
            weights, bias = found.coef_, found.intercept_
            if len(weights) == 1:  # of two classes, scikit-learn gives one row for both
                weights, bias = np.concatenate([-weights, weights]) / 2, np.r_[-bias, bias] / 2
            heads.append(torch.from_numpy(np.c_[weights @ basis.mT.numpy(), bias]))
        return torch.stack(heads).to(features)

    def classify(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return the logits of the queries."""
        return append_bias(features) @ fitted.mT
