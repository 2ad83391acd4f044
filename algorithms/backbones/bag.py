"""Bags of tokens: the weighted mean of their learned vectors, or which of them there are."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.nn.layers import Embedding


class Bag(Backbone):
    """The mean of the learned vectors of tokens, by their learned weights, at length sqrt(F).

    Maps tokens [T, B, L] in 1 .. ``tokens`` - 1, or 0 for none, to features [T, B, ``dim``]. A
    token's weight is the exponential of a learned number. Unless ``adapts_vectors``, the inner loop
    of MAML leaves the vectors alone, of which each task would have a copy.
    """

    def __init__(self, tokens: int, *, dim: int, adapts_vectors: bool) -> None:
        super().__init__()
        self.vectors, self.weights = Embedding(tokens, dim), Embedding(tokens, 1)
        nn.init.normal_(self.vectors.weight, std=dim**-0.5)
        nn.init.zeros_(self.weights.weight)
        self.num_features = dim
        self.not_adapted = () if adapts_vectors else ("vectors.weight",)

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the features of tokens; there are no batch statistics."""
        x = x.int()
        weights = self.weights(x).exp().masked_fill((x == 0).unsqueeze(-1), 0)
        total = torch.matmul(weights.mT, self.vectors(x)).squeeze(-2)
        return F.normalize(total, dim=-1) * math.sqrt(self.num_features)


class Presence(Backbone):
    """Which tokens there are, as ones and zeros in ``buckets`` places, at length sqrt(F).

    Maps tokens [T, B, L], of which 0 is none, to features [T, B, ``buckets``].
    """

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.num_features = buckets

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the features of tokens."""
        places = torch.where(x == 0, self.num_features, x % self.num_features).long()
        found = torch.zeros(*x.shape[:2], self.num_features + 1, device=x.device)
        found = found.scatter(-1, places, 1.0)[..., :-1]
        return F.normalize(found, dim=-1) * math.sqrt(self.num_features)
