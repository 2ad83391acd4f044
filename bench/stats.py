"""Intervals, and what they cover."""

import math

import torch
from torch import Tensor


def mean_ci95(values: Tensor) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval over episodes: 1.96 standard errors.

    It covers the draw of test episodes for one trained model, as in most of the literature. It
    does not cover the training seed, nor that episodes share images. ``values`` is [n], n >= 2.
    """
    deviation = values.double().std(correction=1).item()
    return values.double().mean().item(), 1.96 * deviation / math.sqrt(len(values))


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, middle, high = torch.tensor(values, dtype=torch.float64).quantile(
        torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    )
    return low.item(), middle.item(), high.item()
