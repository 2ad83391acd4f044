"""Ridge regression on the features of a frozen backbone."""

from algorithms.backbones import Backbone
from algorithms.r2d2 import R2D2


class Ridge(R2D2):
    """Ridge regression of one-hot labels, or of the targets of a regression (`R2D2`)."""

    trains_backbone = False

    def __init__(
        self, backbone: Backbone, outputs: int, *, ridge_lambda: float = 10.0, scale: float = 10.0
    ) -> None:
        super().__init__(backbone, outputs, ridge_lambda=ridge_lambda, initial_scale=scale)
        self.requires_grad_(False)
