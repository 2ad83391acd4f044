"""MetaOptNet with ``learn2learn.nn.SVClassifier``, which solves the dual by qpth, task by task.

The method is that of `algorithms.metaoptnet` with the SVM head. The only difference is in the
running statistics of batch norm: here they are updated once per task, in ours once per meta-batch.
"""

import torch
from learn2learn.nn import SVClassifier
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.learn2learn.task_loop import TaskLoop


class MetaOptNet(TaskLoop):
    """MetaOptNet with an SVM head on any backbone; training and test shapes may differ.

    ``svm_c`` is C of the SVM, ``svm_iterations`` the maximum number of qpth iterations; the learned
    scale of the logits starts at ``initial_scale``.
    """

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        svm_c: float = 0.1,
        svm_iterations: int = 15,
        initial_scale: float = 10.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.svm_c = svm_c
        self.svm_iterations = svm_iterations
        self.scale = nn.Parameter(torch.tensor(float(initial_scale)))

    def adapt_one(self, support_x: Tensor, support_y: Tensor) -> SVClassifier:
        """Return the classifier fitted to the features of the support set."""
        return SVClassifier(
            self.backbone.forward_single_task(support_x),
            support_y,
            C_reg=self.svm_c,
            max_iters=self.svm_iterations,
        )

    def predict_one(self, adapted: SVClassifier, query_x: Tensor) -> Tensor:
        """Return the scaled scores of the queries."""
        result: Tensor = self.scale * adapted(self.backbone.forward_single_task(query_x))
        return result
