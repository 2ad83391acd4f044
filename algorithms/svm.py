"""Support vector machine on the features of a frozen backbone."""

from algorithms.backbones import Backbone
from algorithms.metaoptnet import MetaOptNet


class SVM(MetaOptNet):
    """Crammer-Singer support vector machine (`MetaOptNet`)."""

    trains_backbone = False

    def __init__(
        self, backbone: Backbone, ways: int, *, svm_c: float = 0.1, scale: float = 10.0
    ) -> None:
        super().__init__(backbone, ways, head="svm", svm_c=svm_c, initial_scale=scale)
        self.requires_grad_(False)
