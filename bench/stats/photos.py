"""Accuracy on the photographs of a few given classes, with an interval over the draw of these.

Tasks that are drawn again and again from the same few photographs are not independent: an interval
over tasks shrinks with their number, as if each had brought new photographs. The mean over all of
them is a U-statistic of the photographs (Hoeffding 1948), of which the jackknife knows the variance:
the mean is formed again without each photograph, in the support set and among the queries
(stratified, as classes are given; Efron and Stein 1981, who show that it errs on the wide side).
tools/campaigns/coverage.py measures the coverage.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.special import stdtrit

Floats = NDArray[np.float64]
LEAST_SHARE = 0.1
"""Least share of the jackknife's variance that counts as that of the photographs."""
NOT_ASKED = -1
"""In answers: the photograph is no query of the task."""


def pseudo_values(
    answers: NDArray[np.integer], classes: NDArray[np.integer], of: int | None = None
) -> Floats:
    """Return one number [M] for each photograph, in percent, whose mean is the accuracy.

    Their usual standard error is that of the stratified jackknife, so that two learners on the same
    photographs are compared by the differences of these numbers. A single one may be below 0 or
    above 100. The luck of which tasks were drawn adds to the jackknife's variance as if it were that
    of photographs; it is not in the covariance of two halves of the tasks, which takes its place.

    Args:
        answers: The class that each of T tasks gives to each of M photographs [T, M], or NOT_ASKED if
            that is in the task's support set, or its class in no way of the task.
        classes: The classes of the photographs, 0 to C - 1; each has 2 queries or more in a task.
        of: The class whose accuracy it is; by default the mean over classes.
    """
    counted = np.ones(int(classes.max()) + 1) if of is None else np.arange(classes.max() + 1) == of
    mean, effects = _jackknife(answers, classes, counted)
    one, other = (_jackknife(answers[half::2], classes, counted)[1] for half in (0, 1))
    square = float(effects @ effects)
    share = max(LEAST_SHARE, min(1.0, float(one @ other) / square)) if square else 1.0
    return 100 * (mean + math.sqrt(share) * effects)


def _jackknife(
    answers: NDArray[np.integer], classes: NDArray[np.integer], counted: NDArray[np.generic]
) -> tuple[float, Floats]:
    """Return the accuracy, the mean of the classes that count, and the effects of photographs [M].

    An effect is how far the accuracy falls without the photograph, less the mean of its class, scaled
    so that all have the usual standard error of the stratified jackknife.
    """
    asked = answers != NOT_ASKED
    member = np.eye(len(counted))[classes]
    right = (answers == classes).astype(np.float64)
    rights, queries = right @ member, asked @ member
    weights = counted * (queries > 0)
    by_class = weights * rights / np.maximum(queries, 1)
    total, weight = by_class.sum(1), weights.sum(1)
    effects = np.empty(len(classes))
    for each in range(len(counted)):
        mine, here = classes == each, queries[:, [each]] > 0
        free = asked[:, mine] | ~here  # not in the support set
        others = np.maximum(queries[:, [each]] - asked[:, mine], 1)
        rest = weights[:, [each]] * (rights[:, [each]] - right[:, mine]) / others
        sums = free * (total - by_class[:, each])[:, None] + free * rest
        left = weight @ free
        # a photograph that each task learns from tells nothing of the tasks without it
        without = np.where(left > 0, sums.sum(0) / np.maximum(left, 1), np.nan)
        without = np.where(left > 0, without, np.nanmean(without) if (left > 0).any() else 0.0)
        size, photos = int(mine.sum()), len(classes)
        scale = math.sqrt(photos * (photos - 1) * (size - 1) / size)
        effects[mine] = scale * (without.mean() - without)
    return float(total.sum() / weight.sum()), effects


def interval(values: ArrayLike, photos: int | None = None) -> tuple[float, float]:
    """Return the mean of `pseudo_values` in percent, and the half-width of its 95 % interval.

    The t interval of a share is too narrow near 0 and 100 %, and empty where all is right. So the
    variance is raised by as much as that of a binomial share is when a right and a wrong answer are
    added to it (Agresti and Coull 1998 add two of each). ``photos`` are those of which it is the
    share, by default all.
    """
    y = np.asarray(values, dtype=np.float64)
    mean, count = float(y.mean()), photos or len(y)
    share = min(1.0, max(0.0, mean / 100))
    more = (count * share + 1) / (count + 2)
    added = max(0.0, more * (1 - more) - share * (1 - share)) / count
    error = math.sqrt(float(y.var(ddof=1)) / len(y) + 100**2 * added)
    return mean, -float(stdtrit(count - 1, 0.025)) * error


def extrapolated(shots: ArrayLike, scores: ArrayLike, halves: ArrayLike, at: ArrayLike) -> Floats:
    """Return scores (%) at some shots, by a power law of the error fitted to those at others.

    error = a + b shots^-c with a, b >= 0, by least squares with weights 1 / half^2.
    """
    x, errors = np.asarray(shots, dtype=np.float64), 100 - np.asarray(scores, dtype=np.float64)
    weights = 1 / np.maximum(np.asarray(halves, dtype=np.float64), 0.1)
    best, fit = math.inf, (0.0, 0.0, 1.0)
    for power in np.arange(1, 41) / 20:
        design = np.stack([np.ones_like(x), x**-power], 1)
        (a, b), residual = nnls(design * weights[:, None], errors * weights)
        if residual < best:
            best, fit = residual, (float(a), float(b), float(power))
    a, b, power = fit
    return np.asarray(100 - a - b * np.asarray(at, dtype=np.float64) ** -power)
