"""MetaOptNet: a convex classifier on learned features, differentiated through its solution.

Lee, Maji, Ravichandran, Soatto 2019, "Meta-Learning with Differentiable Convex Optimization" (arXiv
1904.03758). On the features of the support set, a Crammer-Singer SVM (or ridge regression) is
solved in its dual, whose size is that of the support set; the gradient of the query loss is
propagated through the optimality conditions (`algorithms.solvers.svm`). With support features F,
dual solution Z and learned scale gamma,

    logits = gamma * f(query) F' Z.

The ridge head (`algorithms.solvers.ridge`) is the quadratic programme with the kernel K = FF',
min_z 1/2 z'(K + lambda I)z - 2 <y, z>, whose solution is twice that of textbook ridge regression.

As in the official code, support and query sets pass the backbone one after the other, and batch
norm uses its running statistics in evaluation. Difference: in training, batch norm sees one task at
a time, where the official code has all tasks of a meta-batch in one batch; so tasks do not depend
on each other.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner
from algorithms.solvers.ridge import ridge
from algorithms.solvers.svm import TOLERANCE, crammer_singer, kkt_residual, linear_kernel


class MetaOptNet(FeatureLearner):
    """MetaOptNet with an SVM or ridge head on any backbone; training and test shapes may differ.

    ``svm_c`` is C of the SVM, ``ridge_lambda`` the lambda of the ridge regression; the learned
    scale gamma starts at ``initial_scale`` (the official code starts at 1, but with a learning rate
    of 0.1; with the smaller steps of Adam, a short training would spend most of its time reaching
    the right scale).
    """

    joint_forward = False

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        head: Literal["svm", "ridge"] = "svm",
        svm_c: float = 0.1,
        ridge_lambda: float = 50.0,
        initial_scale: float = 10.0,
    ) -> None:
        super().__init__(backbone)
        self.head = head
        self.requires_classes = head == "svm"
        self.svm_c = svm_c
        self.ridge_lambda = ridge_lambda
        self.scale = nn.Parameter(torch.tensor(float(initial_scale)))

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """Return one weight vector per class [T, N, F]; in evaluation, check the SVM's solution."""
        labels = self.loss.encode(support_y)
        if self.head == "ridge":
            return 2 * ridge(features, labels, self.ridge_lambda).mT
        kernel = linear_kernel(features)
        dual = crammer_singer(kernel, labels.to(kernel), self.svm_c)
        if not self.training:
            residual = kkt_residual(kernel, labels, dual, self.svm_c)
            self.unsolved = ~(residual <= TOLERANCE * self.svm_c)  # NaN is unsolved, too
        return dual.to(features.dtype).mT @ features

    def classify(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return the scaled inner products of query features with each class's weight vector."""
        return self.scale * (features @ fitted.mT)
