"""A multilayer perceptron: the simplest baseline, and the network of few-shot regression."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.nn.layers import Linear


class MLP(Backbone):
    """Hidden layers of ReLU units on the raw inputs of any shape, without normalisation.

    Maps inputs [T, B, ...] to features [T, B, ``num_features``]: the ``hidden`` units of the last
    of ``layers`` layers. ``stats_from`` has no effect, as there is no batch norm.
    """

    def __init__(self, input_shape: tuple[int, ...], *, hidden: int = 128, layers: int = 1) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, not {layers}")
        sizes = [math.prod(input_shape)] + layers * [hidden]
        self.hidden = nn.ModuleList(Linear(size, hidden) for size in sizes[:-1])
        self.num_features = hidden

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the features of inputs."""
        with self.autocast(x):
            features = x.flatten(2)
            for layer in self.hidden:
                features = F.relu(layer(features))
            return features.to(x.dtype)
