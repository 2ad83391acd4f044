"""Confidence intervals, each with what it covers, and paired comparisons on shared episodes."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, stdtr, stdtrit

Floats = NDArray[np.float64]

POWER = 1.959964 + 0.841621
"""Sum of the normal quantiles of a two-sided 5 % test with a power of 80 %."""
RATIOS = (-9.0, 9.0)
"""Logarithms of the smallest and the largest ratio of variances in the REML search."""
TIE = 1e-6
"""Difference of accuracy in points, far below one query, up to which two runs tie on an episode."""
BISECTIONS = 50
"""Number of bisections, which determine a probability to 1e-15."""


def mean_ci95(values: ArrayLike) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % interval over episodes: 1.96 standard errors.

    It covers the sampling of test episodes for one trained model, as in most of the literature. It
    covers neither the variation between training seeds nor the dependence of episodes that share
    images. ``values`` is [n], n >= 2.
    """
    y = np.asarray(values, dtype=np.float64)
    return float(y.mean()), 1.96 * float(y.std(ddof=1)) / math.sqrt(len(y))


def binomial_ci95(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a probability (Clopper and Pearson 1934)."""
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, 0.025)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 0.975)) if failures else 1.0
    return low, high


class Estimate(NamedTuple):
    """A mean or a difference of means, its standard error, and the parameters of its t quantile.

    ``df`` are the degrees of freedom of the episodes, ``df_seeds`` those of the seeds; ``share`` is
    the share of the seeds in the variance.
    """

    mean: float
    error: float
    df: float
    df_seeds: float = math.inf
    share: float = 0.0

    @property
    def half(self) -> float:
        """Half-width of the 95 % interval."""
        return self._quantile(0.025) * self.error

    @property
    def p(self) -> float:
        """Two-sided p-value of a zero mean: below 0.05 exactly if `half` is less than abs(mean)."""
        return min(1.0, 2 * self._above(abs(self.mean)))

    def p_beyond(self, margin: float) -> float:
        """Return the p-value of a mean at or beyond +-``margin``; small if it is equivalent to zero.

        It is the larger p-value of two one-sided tests (TOST, Schuirmann 1987): below 0.05 exactly
        if the 90 % interval lies within the margin.
        """
        return self._above(margin - abs(self.mean))

    def _quantile(self, tail: float) -> float:
        """Return the ratio that is exceeded on one side with probability ``tail``, at most 0.5."""
        t_episodes, t_seeds = stdtrit([self.df, self.df_seeds], tail)
        return math.sqrt(t_episodes**2 + (t_seeds**2 - t_episodes**2) * self.share**1.5)

    def _above(self, distance: float) -> float:
        """Return the one-sided probability of an error of at least ``distance``."""
        if distance < 0:
            return 1 - self._above(-distance)
        if self.error == 0:
            return float(distance == 0)
        ratio = distance / self.error
        if not self.share:
            return float(stdtr(self.df, -ratio))
        low, high = sorted(map(float, stdtr([self.df, self.df_seeds], -ratio)))
        for _ in range(BISECTIONS):
            tail = (low + high) / 2
            low, high = (tail, high) if self._quantile(tail) > ratio else (low, tail)
        return high


def estimate(
    groups: Sequence[ArrayLike],
    weights: Sequence[float] = (1.0,),
    classes: "ClassDesign | None" = None,
) -> Estimate:
    """Estimate the weighted sum of the means of learners over other seeds and other episodes.

    Weights (1,) are for one learner and (1, -1) for the difference of two. A group [S, E] holds the
    accuracies of S >= 2 independent trainings on the E episodes that all groups share; a group [E]
    is for models taken as given, without variation between training seeds. With ``classes``, the
    design of the episodes' classes, the estimate also generalises to other classes and images, see
    `over_classes`.

    In y_se = mu + seed_s + episode_e + rest_se, the seeds of a group with weight w contribute the
    variance w^2 var_s(mean_e y) / S to the sum, residual included. The episodes contribute
    the variance of the weighted sum across episodes, less the part of the residual in it (two-way
    random effects, Searle et al. 1992, ch. 4):

        (var_e(sum_g w mean_s y) - sum_g w^2 MS_rest / S)^+ / E.

    The seeds of all groups together have Welch's degrees of freedom (1947). A few seeds estimate
    their variance far less accurately than hundreds of episodes estimate theirs: with
    Satterthwaite's rule, the interval of two seeds that account for most of the variance would
    contain the true value in only 87 % of cases. So the square of the t quantile moves from that of
    the episodes to that of the seeds with the seeds' share of the variance:

        t^2 = t_{E-1}^2 + (t_seeds^2 - t_{E-1}^2) share^1.5,

    at every level, so that p is the level whose quantile is the observed ratio. With
    two seeds, a test at 5 % is conservative (2 to 5 %, by tools/campaigns/coverage.py), except for
    two seeds against ten (up to 11 %).
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    sums = sum(w * np.atleast_2d(y).mean(0) for y, w in zip(arrays, weights, strict=True))
    by_episode = np.asarray(sums)
    episodes = len(by_episode)
    of_seeds, squares, of_rest = 0.0, 0.0, 0.0
    for y, weight in zip(arrays, weights, strict=True):
        if y.ndim == 2:
            seeds, by_seed = len(y), y.mean(1)
            rest = y - by_seed[:, None] - y.mean(0) + y.mean()
            of_rest += weight**2 * (rest**2).sum() / ((seeds - 1) * (episodes - 1) * seeds)
            variance = weight**2 * by_seed.var(ddof=1) / seeds
            of_seeds += variance
            squares += variance**2 / (seeds - 1)
    usual = float(by_episode.var(ddof=1)) / episodes, float(episodes - 1)
    variance, df = usual if classes is None else over_classes(by_episode, classes)
    of_episodes = max(0.0, variance - of_rest / episodes)
    return _combined(float(by_episode.mean()), of_seeds, squares, of_episodes, df)


def estimate_without_episodes(means: Sequence[float], halves: Sequence[float]) -> Estimate:
    """Estimate a mean over seeds of which only the means and the intervals over episodes are known.

    As `estimate`, but the whole variance of an interval is attributed to the episodes. The residual
    is then counted twice, so the interval is slightly conservative.
    """
    of_seeds = float(np.var(means, ddof=1)) / len(means)
    of_episodes = float(np.mean(np.square(halves))) / 1.96**2
    squares = of_seeds**2 / (len(means) - 1)
    return _combined(float(np.mean(means)), of_seeds, squares, of_episodes, math.inf)


def _combined(
    mean: float, of_seeds: float, squares: float, of_episodes: float, df: float
) -> Estimate:
    """Return an estimate that combines the variances of seeds and episodes.

    ``squares`` is the sum over groups of the squared variance of seeds per degree of freedom.
    """
    if not of_seeds:
        return Estimate(mean, math.sqrt(of_episodes), df)
    variance = of_seeds + of_episodes
    return Estimate(mean, math.sqrt(variance), df, of_seeds**2 / squares, of_seeds / variance)


class ClassDesign(NamedTuple):
    """Design of a random-effects model: how episodes share groups of classes.

    ``shares`` [G] are the mean numbers of classes of each group in an episode. The matrix of these
    numbers minus the means, [E, G], has the left singular vectors ``axes`` [E, K] and the squared
    singular values ``scales`` [K].
    """

    axes: Floats
    scales: Floats
    shares: Floats

    @classmethod
    def of(cls, groups: NDArray[np.int64]) -> "ClassDesign | None":
        """Return the design of episodes from the groups [E, N] of their classes.

        None if all episodes have the same number of classes of each group: then the data contain no
        information about other groups.
        """
        seen, place = np.unique(groups, return_inverse=True)
        counts = np.zeros((len(groups), len(seen)))
        np.add.at(counts, (np.arange(len(groups))[:, None], place.reshape(groups.shape)), 1)
        shares = counts.mean(0)
        axes, values, _ = np.linalg.svd(counts - shares, full_matrices=False)
        kept = values > 1e-6
        return cls(axes[:, kept], values[kept] ** 2, shares) if kept.any() else None


def over_classes(values: ArrayLike, design: ClassDesign) -> tuple[float, float]:
    """Return the variance of a mean over episodes for other classes and images too, and its df.

    The usual variance assumes that episodes are independent, although hundreds of them are drawn
    from the same few classes and images: it shrinks with their number as if there were always new
    data (Lafargue et al. 2024, arXiv 2409.02850, who draw episodes without replacement instead).
    Nor are classes independent that are similar for a reason, such as a letter and its accented
    forms. So groups of classes are the sampling units:

        y_e = mu + sum_g n_eg u_g + rest_e,   var u = V = lambda R,   var rest = R,

    where n_eg classes of episode e belong to group g. The effects of a class and of its images are
    part of its group's effect u. The mean has the variance V sum_g (mean_e n_eg)^2 + R / E, and G -
    1 degrees of freedom for G groups. lambda maximises the restricted likelihood (REML, Patterson
    and Thompson 1971) times lambda^(1/4). REML alone is zero too often if groups are few or matter
    little; the lambda^(1/2) of Chung et al. 2013, a gamma prior of shape 2 on the standard
    deviation, is more conservative than necessary. tools/campaigns/coverage.py measures the
    coverage.

    ``values`` is [E].
    """
    from scipy.optimize import brentq, minimize_scalar  # late: half a second of each command

    y = np.asarray(values, dtype=np.float64)
    episodes, df = len(y), len(design.shares) - 1
    typical = float(design.scales.mean())
    along = (design.axes.T @ (y - y.mean())) ** 2
    left = max(0.0, float(((y - y.mean()) ** 2).sum() - along.sum()))

    def rest(ratio: float) -> float:
        return float((along / (1 + ratio * design.scales)).sum() + left) / (episodes - 1)

    def loss(log_ratio: float) -> float:
        ratio = math.exp(log_ratio) / typical
        determinant = float(np.log1p(ratio * design.scales).sum())
        return ((episodes - 1) * math.log(rest(ratio)) + determinant) / 2 - log_ratio / 4

    def slope(log_ratio: float) -> float:
        ratio = math.exp(log_ratio) / typical
        shrunk = design.scales / (1 + ratio * design.scales)
        by_rest = float((along * shrunk / (1 + ratio * design.scales)).sum()) / rest(ratio)
        return ratio * (float(shrunk.sum()) - by_rest) / 2 - 1 / 4

    if not rest(0) > TIE**2:
        return 0.0, df
    best = float(minimize_scalar(loss, bounds=RATIOS, options={"xatol": 1e-6}).x)
    near = best - 1e-3, best + 1e-3
    if slope(near[0]) < 0 < slope(near[1]):  # near its minimum the loss is too flat for more digits
        best = float(brentq(slope, *near, xtol=1e-13))
    ratio = math.exp(best) / typical
    return rest(ratio) * (ratio * float(design.shares @ design.shares) + 1 / episodes), df


def holm(ps: Sequence[float]) -> list[float]:
    """Return Holm-corrected p-values, which control the family-wise error rate.

    The smallest is multiplied by m, the next by m - 1, and so on, never decreasing (Holm 1979).
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def superiority(first: ArrayLike, second: ArrayLike) -> float:
    """Return the probability that a run of the first learner beats one of the second on an episode.

    It is averaged over all pairs of a seed of the first [S, E] and one of the second [T, E], a tie
    counting half; so its expectation does not depend on the numbers of seeds.
    """
    shares = [np.mean(d > TIE) + np.mean(np.abs(d) <= TIE) / 2 for d in _single_runs(first, second)]
    return float(np.mean(shares))


def spread_of_runs(first: ArrayLike, second: ArrayLike) -> float:
    """Return the standard deviation over episodes of the difference of two single runs.

    It is the root of the mean variance over all pairs of a seed of the first [S, E] and one of the
    second [T, E].
    """
    variances = [d.var(1, ddof=1) for d in _single_runs(first, second)]
    return math.sqrt(float(np.mean(variances)))


def _single_runs(first: ArrayLike, second: ArrayLike) -> Iterator[Floats]:
    """Yield the differences [T, E] between each run of the first and all runs of the second."""
    others = np.atleast_2d(np.asarray(second, dtype=np.float64))
    for run in np.atleast_2d(np.asarray(first, dtype=np.float64)):
        yield run - others


def effect_size(difference: float, spread: float) -> float:
    """Return a mean difference in units of `spread_of_runs` (Cohen's d_z of a pair of runs)."""
    if abs(difference) <= TIE:
        return 0.0
    return difference / spread if spread > TIE else math.copysign(math.inf, difference)


def episodes_to_separate(effect: float) -> float:
    """Return how many episodes a test at 5 % needs to separate two such runs with 80 % power.

    It is ((1.96 + 0.84) / d_z)^2, rounded up; infinite for an effect size of zero.
    """
    return math.inf if effect == 0 else float(max(2, math.ceil((POWER / effect) ** 2)))


def interquartile_means(scores: ArrayLike) -> Floats:
    """Return the mean of the middle half of each row of scores [..., n] (Agarwal et al. 2021).

    A score that straddles a quartile is weighted by the part of it inside, so that the share left
    out does not depend on n.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=-1)
    count = ordered.shape[-1]
    places = np.arange(count)
    weights = np.minimum(places + 1, 0.75 * count) - np.maximum(places, 0.25 * count)
    result: Floats = ordered @ (weights.clip(0) / (count / 2))
    return result


def mean_ranks(scores: ArrayLike) -> Floats:
    """Return the mean rank of L learners over M settings from [..., L, M], 1 for the best.

    Learners with equal scores share the mean of their ranks (Demsar 2006).
    """
    y = np.asarray(scores, dtype=np.float64)
    first, second = y[..., :, None, :], y[..., None, :, :]
    better = (second > first).sum(-2) + ((second == first).sum(-2) - 1) / 2
    result: Floats = 1 + better.mean(-1)
    return result


def aggregates(
    runs: Sequence[Sequence[ArrayLike]], resamples: int = 999, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return interquartile mean and mean rank of L learners over M settings, with 95 % intervals.

    ``runs[l][m]`` are the accuracies [S, E] of learner l in setting m, whose E episodes all
    learners share. Both results are [L, 3]: the value and the two ends of its interval. The
    interquartile mean is over the runs of all settings; ranks are those of the means over seeds.

    The bootstrap is stratified by setting (Agarwal et al. 2021, arXiv 2108.13264). It resamples
    episodes, the same for all learners, and S - 1 of S seeds with replacement, so that their
    variance is not underestimated (Rao and Wu 1988); a single seed is a model taken as given.
    """
    generator = np.random.default_rng(seed)
    arrays = [[np.asarray(each, dtype=np.float64) for each in line] for line in runs]
    scores: list[list[Floats]] = [[] for _ in arrays]
    for setting in range(len(arrays[0])):
        episodes = arrays[0][setting].shape[1]
        drawn = generator.multinomial(episodes, np.full(episodes, 1 / episodes), resamples)
        for line, found in zip(arrays, scores, strict=True):
            means = drawn @ line[setting].T / episodes
            count = means.shape[1]
            seeds = generator.integers(0, count, (resamples, max(1, count - 1)))
            found.append(np.take_along_axis(means, seeds, 1))
    middle = np.stack([interquartile_means(np.concatenate(each, 1)) for each in scores])
    by_setting = np.array([[each.mean(1) for each in line] for line in scores])
    ranks = mean_ranks(by_setting.transpose(2, 0, 1)).T
    own = [interquartile_means(np.concatenate([y.mean(1) for y in line])) for line in arrays]
    own_ranks = mean_ranks([[y.mean() for y in line] for line in arrays])
    return _with_ends(np.array(own), middle), _with_ends(own_ranks, ranks)


def _with_ends(values: Floats, drawn: Floats) -> Floats:
    """Return values [L] with the 2.5 and 97.5 percentiles of their resamples [L, R]."""
    return np.stack([values, *np.quantile(drawn, [0.025, 0.975], axis=1)], axis=1)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)
