import math

import pytest
import torch

from bench.stats import mean_ci95, quartiles


def test_interval_by_hand():
    """Of 90, 92, 94, 96: mean 93, variance (9 + 1 + 1 + 9) / 3."""
    mean, half = mean_ci95(torch.tensor([90.0, 92.0, 94.0, 96.0]))
    assert mean == 93
    assert half == pytest.approx(1.96 * math.sqrt(20 / 3) / 2)


def test_the_interval_covers_what_it_says():
    """Accuracies of episodes with 75 queries, whose difficulty varies: 95 % of intervals cover."""
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(2000):
        difficulty = 0.9 + 0.05 * (torch.rand(600, generator=generator) - 0.5)
        right = torch.rand(600, 75, generator=generator) < difficulty[:, None]
        mean, half = mean_ci95(100 * right.double().mean(1))
        covered += abs(mean - 90) <= half
    assert 0.93 <= covered / 2000 <= 0.97


def test_quartiles_by_hand():
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 3.0, 4.0)
