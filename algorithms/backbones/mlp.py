"""A network with one hidden layer: the simplest baseline."""

import torch.nn.functional as F
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.nn.layers import Linear


class MLP(Backbone):
    """One hidden layer of ReLU units on the raw pixels, without normalisation.

    Maps images [T, B, C, H, W] to features [T, B, ``num_features``]. ``rows`` has no effect, as
    there is no batch norm.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.hidden = Linear(channels * height * width, hidden)
        self.num_features = hidden

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        """Return the features of images."""
        with self.autocast(x):
            return F.relu(self.hidden(x.flatten(2))).to(x.dtype)
