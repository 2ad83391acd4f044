"""What learners have in common whose tasks share the backbone: features by chosen statistics."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.learner import Learner
from algorithms.statistics import OF_BATCHES, of_queries


class FeatureLearner(Learner):
    """A learner that fits a classifier to features; its tasks share the weights of the backbone.

    Batch norm normalises by the images of a pass in training, by its running averages in evaluation,
    unless ``statistics`` of the trained learner is set to something else.
    """

    statistics_choices = ("running", *OF_BATCHES)

    one_pass: ClassVar[bool] = True
    """Whether support and query images pass the backbone together where that may be, so that in
    training they are normalised together; if not, one after the other."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def fit(self, features: Tensor, support_y: Tensor) -> Any:
        """Classifiers for `classify`, from support features [T, N*K, F] with labels [T, N, K]."""
        raise NotImplementedError

    def classify(self, fitted: Any, features: Tensor) -> Tensor:
        """Logits [T, M, N] of query features [T, M, F] by what `fit` returned."""
        raise NotImplementedError

    @property
    def by_batches(self) -> bool:
        """Whether evaluation normalises by images at hand, and not by running averages."""
        return not self.training and self.statistics != "running"

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[Any, Tensor]:
        """What `fit` makes of the support set, with its images for `predict`."""
        images = support_x.flatten(1, 2)
        features = self.backbone.by_task(images) if self.by_batches else self.backbone(images)
        return self.fit(features, support_y), images

    def predict(self, adapted: tuple[Any, Tensor], query_x: Tensor) -> Tensor:
        """Classify the queries, normalised as ``statistics`` says."""
        fitted, support_x = adapted
        if self.by_batches:
            run = self.backbone.by_task
            return self.classify(fitted, of_queries(run, support_x, query_x, self.statistics))
        return self.classify(fitted, self.backbone(query_x))

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """As `adapt` and `predict`, with all images in one pass of the backbone where that may be."""
        if self.by_batches or not self.one_pass:
            return super().forward(support_x, support_y, query_x)
        features = self.backbone(torch.cat((support_x.flatten(1, 2), query_x), 1))
        support, query = features.tensor_split([support_y[0].numel()], dim=1)
        return self.classify(self.fit(support, support_y), query)


def one_hot(support_y: Tensor) -> Tensor:
    """Whether an image has a label: bool [T, N*K, N] from labels [T, N, K].

    Unlike torch's, this asks nothing of the labels that a GPU would be waited for.
    """
    labels = torch.arange(support_y.shape[1], device=support_y.device)
    return support_y.flatten(1).unsqueeze(-1) == labels
