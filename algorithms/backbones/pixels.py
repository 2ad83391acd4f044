"""Raw pixels as features: a backbone without computation."""

import math

from torch import Tensor

from algorithms.backbones import Backbone


class Pixels(Backbone):
    """All values of an input, flattened."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.num_features = math.prod(input_shape)

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the inputs [T, B, ...] as features [T, B, ``num_features``]; integers as floats."""
        features = x.flatten(2)
        return features if features.is_floating_point() else features.float()
