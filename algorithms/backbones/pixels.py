"""Raw pixels as features: a backbone without computation."""

from torch import Tensor

from algorithms.backbones import Backbone


class Pixels(Backbone):
    """All values of an image, flattened."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.num_features = channels * height * width

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        """Return the images [T, B, C, H, W] as features [T, B, C*H*W]."""
        return x.flatten(2)
