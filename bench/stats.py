"""Intervals, each named by what it covers, and paired comparisons on shared episodes."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]

POWER = 1.959964 + 0.841621
"""Normal quantiles of a two-sided test at 5 % that finds a difference with a probability of 80 %."""


def mean_ci95(values: ArrayLike) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval over episodes: 1.96 standard errors.

    It covers the draw of test episodes for one trained model, as in most of the literature. It
    does not cover the training seed, nor that episodes share images. ``values`` is [n], n >= 2.
    """
    y = np.asarray(values, dtype=np.float64)
    return float(y.mean()), 1.96 * float(y.std(ddof=1)) / math.sqrt(len(y))


def half_over_seeds(means: Sequence[float]) -> float:
    """Half-width of the 95 % t-interval of a mean over training seeds; two or more are needed.

    Covers the luck of training, on these test episodes.
    """
    error = float(np.std(means, ddof=1)) / math.sqrt(len(means))
    return float(stdtrit(len(means) - 1, 0.975)) * error


def half_over_seeds_and_episodes(values: ArrayLike) -> float:
    """Half-width of the 95 % interval of a mean over S seeds that share their E episodes.

    ``values`` is [S, E] with two or more of each. In y_se = mu + seed_s + episode_e + rest_se, with
    independent effects, the variance of the mean is estimated by the mean squares of a two-way
    analysis of variance, (MS_seeds + MS_episodes - MS_rest) / (S E). A few seeds know their spread
    far less well than hundreds of episodes theirs, so each part has a t quantile of its own:

        half^2 = (t_{S-1}^2 MS_seeds + t_{E-1}^2 max(0, MS_episodes - MS_rest)) / (S E).

    Covers other seeds and other episodes of these test classes, in 93 to 98 % of simulations; one
    quantile with Satterthwaite's degrees of freedom did so in 91 to 99 %.
    """
    y = np.asarray(values, dtype=np.float64)
    seeds, episodes = y.shape
    by_seed, by_episode = y.mean(1), y.mean(0)
    rest = y - by_seed[:, None] - by_episode + y.mean()
    of_rest = (rest**2).sum() / ((seeds - 1) * (episodes - 1))
    of_seeds = episodes * by_seed.var(ddof=1)
    of_episodes = max(0.0, seeds * by_episode.var(ddof=1) - of_rest)
    squares = stdtrit(seeds - 1, 0.975) ** 2 * of_seeds
    squares += stdtrit(episodes - 1, 0.975) ** 2 * of_episodes
    return math.sqrt(squares / (seeds * episodes))


def half_over_classes(values: ArrayLike, classes: NDArray[np.int64]) -> float | None:
    """Half-width of the 95 % interval of a mean over episodes, for other classes and images too.

    The usual interval takes episodes for independent, though hundreds of them are drawn from the
    same few classes and images: it narrows with their number as if there were ever new data
    (Lafargue et al. 2024, arXiv 2409.02850, who draw episodes without replacement instead). Here
    y_e = mu + sum of the effects of the episode's N of C classes + rest_e. Images are of one class
    each, so that the luck of a class's images is part of its effect. With r_c the sum of y_e - mean
    over the episodes that hold class c, and p = N / C, the moments

        sum_c r_c^2 / E^2 = p^2 (1-p)^2 C^2/(C-1) V + N (1-p) R / E,     var y = R + N (1-p) V

    give the variances V of class effects and R of the rest, and the mean has p^2 C V + R / E.

    ``values`` is [E], ``classes`` [E, N] the numbers of each episode's classes. None where episodes
    hold all the classes that there are: nothing then tells how others would do.
    """
    y = np.asarray(values, dtype=np.float64)
    episodes, ways = classes.shape
    seen, place = np.unique(classes, return_inverse=True)
    count = len(seen)
    if ways >= count:
        return None
    share = ways / count
    sums = np.bincount(place.ravel(), np.repeat(y - y.mean(), ways), count)
    spread = y.var(ddof=1)
    of_rest = ways * (1 - share)
    of_classes = (share * (1 - share) * count) ** 2 / (count - 1) - of_rest**2 / episodes
    effects = (sums**2).sum() / episodes**2 - of_rest * spread / episodes
    effect = max(0.0, effects / of_classes) if of_classes > 0 else 0.0
    more = effect * (ways * share - of_rest / episodes)
    return float(stdtrit(count - 1, 0.975)) * math.sqrt(spread / episodes + max(0.0, more))


def sign_flip_p(differences: ArrayLike, flips: int = 9_999, seed: int = 0) -> float:
    """p of the two-sided sign-flip permutation test that paired differences [E] have mean zero.

    Were both learners alike, each difference could as well have the other sign (Fisher 1935). Of
    all signs, ``flips`` are drawn; p is (1 + as extreme means) / (1 + flips), hence never zero, and
    the same for the same ``seed``.
    """
    d = np.asarray(differences, dtype=np.float64)
    generator = np.random.default_rng(seed)
    extreme = abs(d.sum()) * (1 - 1e-9)  # sums of the same numbers in another order may round down
    found, left = 1, flips
    while left:
        rows = min(left, max(1, 2**22 // len(d)))
        signs = generator.integers(0, 2, (rows, len(d)), dtype=np.int8)
        sums = d.sum() - 2 * (signs @ d)
        found += int((np.abs(sums) >= extreme).sum())
        left -= rows
    return found / (1 + flips)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that all false alarms together are held to one level.

    The smallest is multiplied by m, the next by m - 1, and so on, never falling (Holm 1979).
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def superiority(differences: ArrayLike) -> float:
    """Probability that the first learner is the better one on an episode; a tie counts half."""
    d = np.asarray(differences, dtype=np.float64)
    return float((d > 0).mean() + (d == 0).mean() / 2)


def effect_size(differences: ArrayLike) -> float:
    """Mean of paired differences in units of their standard deviation (Cohen's d_z); 0 if all are 0."""
    d = np.asarray(differences, dtype=np.float64)
    if not d.any():
        return 0.0
    deviation = d.std(ddof=1)
    return float(d.mean() / deviation) if deviation else math.copysign(math.inf, d.mean())


def effect_size_ci95(
    differences: ArrayLike, resamples: int = 1_999, seed: int = 0
) -> tuple[float, float]:
    """Ends of the 95 % interval of `effect_size` over episodes, by the bootstrap (Efron 1979).

    Percentiles 2.5 and 97.5 of the effect sizes of ``resamples`` lists of as many differences, drawn
    from the given ones with replacement; the same for the same ``seed``.
    """
    d = np.asarray(differences, dtype=np.float64)
    count = len(d)
    if not d.std():
        return (effect_size(d),) * 2
    generator = np.random.default_rng(seed)
    sizes = np.empty(resamples)
    rows = max(1, 2**22 // count)
    for first in range(0, resamples, rows):
        drawn = d[generator.integers(0, count, (min(rows, resamples - first), count))]
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample may repeat one difference
            sizes[first : first + rows] = drawn.mean(1) / drawn.std(1, ddof=1)
    low, high = np.nanquantile(sizes, [0.025, 0.975])
    return float(low), float(high)


def episodes_to_separate(differences: ArrayLike) -> float:
    """Episodes at which a paired test at 5 % finds a difference of this size with 80 % probability.

    ((1.96 + 0.84) / d_z)^2, rounded up; infinite where the differences have mean zero.
    """
    size = effect_size(differences)
    return math.inf if size == 0 else float(max(2, math.ceil((POWER / size) ** 2)))


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)
