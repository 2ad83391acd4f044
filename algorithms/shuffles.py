"""Random orders that are a function of a number: no generator, no waiting for a device."""

import torch
from torch import Tensor

from algorithms.noise import scrambled


def shuffles(images: int, rounds: int, number: Tensor) -> Tensor:
    """So many orders of the images, int64 [rounds, images]; ``number`` is an int64 scalar on a device."""
    places = torch.arange(rounds * images, device=number.device).view(rounds, images)
    return scrambled(number * 2**32 + places).argsort(stable=True)
