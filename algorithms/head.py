"""Base class of heads without training: what the features of a frozen backbone achieve on their own.

A head is fitted to the support set of a task alone. On the features of a pretrained network it is a
contestant of any meta-learner; on the backbone ``pixels`` or ``hog`` it is a floor, which a learner
should clearly exceed.
"""

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner


class Head(FeatureLearner):
    """A head on a frozen backbone, without parameters to train."""

    trains_backbone = False
    norm_statistics_choices = ()

    def __init__(self, backbone: Backbone, ways: int) -> None:
        super().__init__(backbone)
        self.requires_grad_(False)
