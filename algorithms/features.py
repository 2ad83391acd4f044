"""Base class of learners that share one backbone across tasks and fit a head to its features."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.learner import Learner
from algorithms.nn.norm_statistics import BATCH_STATISTICS, run_queries


class FeatureLearner(Learner):
    """A learner that fits a head to features; its tasks share the weights of the backbone.

    Batch norm normalises by the images of a pass in training and by its running averages in
    evaluation, unless ``norm_statistics`` of the trained learner is set to something else.
    """

    norm_statistics_choices = ("running", *BATCH_STATISTICS)

    joint_forward: ClassVar[bool] = True
    """Whether support and query images pass the backbone together where possible.

    In training they are then normalised together; otherwise one after the other.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def fit(self, features: Tensor, support_y: Tensor) -> Any:
        """Return the heads of support features [T, S, F] with targets as in `TaskBatch`.

        `Head` and its like also take one task whose classes differ in size: labels [1, S], sorted.
        """
        raise NotImplementedError

    def classify(self, fitted: Any, features: Tensor) -> Tensor:
        """Return outputs [T, M, N] of query features [T, M, F] under the result of `fit`."""
        raise NotImplementedError

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether evaluation normalises by the images of the task instead of running averages."""
        return not self.training and self.norm_statistics != "running"

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[Any, Tensor]:
        """Return the heads fitted to the support set, and its images for `predict`."""
        images = support_x.flatten(1, 2)
        features = (
            self.backbone.forward_per_task(images)
            if self.uses_batch_statistics
            else self.backbone(images)
        )
        return self.fit(features, support_y), images

    def predict(self, adapted: tuple[Any, Tensor], query_x: Tensor) -> Tensor:
        """Return the outputs of the queries, normalised according to ``norm_statistics``."""
        fitted, support_x = adapted
        if self.uses_batch_statistics:
            run = self.backbone.forward_per_task
            return self.classify(fitted, run_queries(run, support_x, query_x, self.norm_statistics))
        return self.classify(fitted, self.backbone(query_x))

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """Adapt and predict, with all images in one pass of the backbone where possible."""
        if self.uses_batch_statistics or not self.joint_forward:
            return super().forward(support_x, support_y, query_x)
        features = self.backbone(torch.cat((support_x.flatten(1, 2), query_x), 1))
        support, query = features.tensor_split([support_y.flatten(1, 2).shape[1]], dim=1)
        return self.classify(self.fit(support, support_y), query)
