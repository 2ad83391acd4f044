"""What learners have in common whose tasks share the backbone: features by chosen statistics."""

from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.learner import Learner
from algorithms.statistics import OF_BATCHES, of_queries


class FeatureLearner(Learner):
    """A learner that builds a classifier on features, and has no weights of each task's own.

    Batch norm normalises by the images of a pass in training, by its running averages in evaluation,
    unless ``statistics`` of the trained learner is set to something else.
    """

    statistics_choices = ("running", *OF_BATCHES)

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    @property
    def by_batches(self) -> bool:
        """Whether evaluation normalises by images at hand, and not by running averages."""
        return not self.training and self.statistics != "running"

    def support_features(self, images: Tensor) -> Tensor:
        """Features [T, B, F] of all support images [T, B, C, H, W], which are normalised together."""
        return self.backbone.by_task(images) if self.by_batches else self.backbone(images)

    def query_features(self, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Features [T, M, F] of the queries, normalised as ``statistics`` says."""
        if self.by_batches:
            return of_queries(self.backbone.by_task, support_x, query_x, self.statistics)
        return self.backbone(query_x)
