"""Features of a frozen encoder, as the input of a learner."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.nn.layers import Linear


class Features(Backbone):
    """Frozen features [T, B, F], scaled to length sqrt(F), and a linear map if there is training.

    Features of pretrained networks differ in scale by orders of magnitude; at this length their
    elements are about 1 in size, which learning rates and head options are made for. The map starts
    as the identity, so that training starts from what the features achieve on their own.
    """

    def __init__(self, num_features: int, *, adapts: bool) -> None:
        super().__init__()
        self.num_features = num_features
        self.map = Linear(num_features, num_features) if adapts else None
        if self.map:
            with torch.no_grad():
                self.map.weight.copy_(torch.eye(num_features))
                nn.init.zeros_(self.map.bias)

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the scaled features, mapped if there is training."""
        x = x if x.dtype == torch.float64 else x.float()
        scaled = F.normalize(x, dim=-1) * math.sqrt(self.num_features)
        result: Tensor = self.map(scaled) if self.map else scaled
        return result
