"""Test whether runs reach a published accuracy, given the variation of seeds and test episodes."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

ENOUGH_SEEDS = 3
"""With fewer seeds, their spread says next to nothing about that of training."""
PLAUSIBLE_SD = 1.0
"""The largest plausible standard deviation over training seeds, in points."""
Z = 1.96


def half_of_replication(values: ArrayLike, claimed_half: float) -> float:
    """Return the half-width of the 95 % interval of an exact replication's mean minus the claim.

    The claim is one more training of the same population, tested on episodes of its own. With s^2
    the variance of S seeds, and V that of our mean due to the sampling of its E episodes,

        variance = s^2 (1 + 1/S) + V + (claimed_half / 1.96)^2,

    and the t quantile goes from 1.96 to that of S - 1 degrees of freedom with the share of the
    seeds in the variance, as in `intervals.estimate`. ``values`` is [S, E] with S >= 2, in percent;
    the interaction of single episodes and single seeds is part of s^2, and so not of V.
    tools/campaigns/replications.py measures the level.
    """
    y = np.asarray(values, dtype=np.float64)
    seeds, episodes = y.shape
    by_seed, by_episode = y.mean(1), y.mean(0)
    rest = y - by_seed[:, None] - by_episode + y.mean()
    of_rest = (rest**2).sum() / ((seeds - 1) * (episodes - 1))
    of_training = by_seed.var(ddof=1) * (1 + 1 / seeds)
    of_episodes = max(0.0, by_episode.var(ddof=1) - of_rest / seeds) / episodes
    variance = of_training + of_episodes + (claimed_half / Z) ** 2
    if not variance:
        return 0.0
    share = of_training / variance
    t = float(stdtrit(seeds - 1, 0.975))
    return math.sqrt((Z**2 + (t**2 - Z**2) * share**1.5) * variance)


def half_with_sd(values: ArrayLike, claimed_half: float, sd: float) -> float:
    """Return the same for a known standard deviation over training seeds; ``values`` is [S, E]."""
    y = np.asarray(values, dtype=np.float64)
    seeds, episodes = y.shape
    of_episodes = y.mean(0).var(ddof=1) / episodes
    return math.sqrt(Z**2 * (sd**2 * (1 + 1 / seeds) + of_episodes) + claimed_half**2)


def verdict(values: ArrayLike, claimed: float, claimed_half: float) -> str:
    """Return match, below, above or undecided; ``values`` is [S, E] in percent.

    One or two seeds decide if any standard deviation of training up to a plausible one leads to the
    same verdict. More seeds match if the difference is compatible both with their own standard
    deviation and with a plausible one: otherwise a few widely scattered seeds would match any
    claim.
    """
    y = np.asarray(values, dtype=np.float64)
    difference = float(y.mean()) - claimed
    side = "above" if difference > 0 else "below"
    if len(y) >= ENOUGH_SEEDS:
        if abs(difference) > half_of_replication(y, claimed_half):
            return side
        most = half_with_sd(y, claimed_half, PLAUSIBLE_SD)
        return "match" if abs(difference) <= most else "undecided"
    seen = float(y.mean(1).std(ddof=1)) if len(y) > 1 else 0.0
    if abs(difference) <= half_with_sd(y, claimed_half, 0.0):
        return "match"
    most = half_with_sd(y, claimed_half, max(PLAUSIBLE_SD, seen))
    return side if abs(difference) > most else "undecided"
