"""Random permutations as a function of a number: no generator, no host sync."""

import torch
from torch import Tensor

from algorithms.nn.dropout import splitmix64


def permutations(images: int, rounds: int, number: Tensor) -> Tensor:
    """Return ``rounds`` permutations of the images, int64 [rounds, images].

    ``number`` is an int64 scalar tensor, on whose device they are computed.
    """
    places = torch.arange(rounds * images, device=number.device).view(rounds, images)
    return splitmix64(number * 2**32 + places).argsort(stable=True)
