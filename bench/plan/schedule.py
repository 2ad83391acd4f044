"""What becomes of jobs on several workers: when the last one ends, and what failures cost."""

import heapq
import math
import random
from collections.abc import Sequence
from typing import NamedTuple


class Job(NamedTuple):
    """The seconds of a cell's two parts, one after the other.

    ``saved``, its training and validations, is kept after a failure as far as it was saved; ``unsaved``,
    its test and the measurement of speed, is done anew.
    """

    saved: float
    unsaved: float


LEAST_CHANCE = 0.001
"""A job that gets from one save to the next, or through its test, less often is taken for endless."""


class Outcome(NamedTuple):
    """Seconds until the last job ended, failures, and the seconds of work that were done in vain.

    All are infinite where a worker fails so often that a job does not end.
    """

    wall: float
    failures: float
    lost: float


def simulate(
    rounds: Sequence[Sequence[Job]],
    workers: int,
    failures_per_s: float = 0.0,
    save_every: float = math.inf,
    restart: float = 0.0,
    seed: int = 0,
) -> Outcome:
    """Run jobs on workers, each of which takes the next one in order when it is free.

    A round of jobs begins when all of the one before have ended.
    A worker at work fails by chance, ``failures_per_s`` on average (a Poisson process), is back after
    ``restart`` seconds, and goes on with its job from where that was last saved: ``save_every``
    seconds of work lie between two saves. ``seed`` names the chance.
    """
    longest = max(
        (min(job.saved, save_every) + job.unsaved for jobs in rounds for job in jobs), default=0
    )
    if math.exp(-longest * failures_per_s) < LEAST_CHANCE:
        return Outcome(math.inf, math.inf, math.inf)
    dice = random.Random(seed)
    free = [0.0] * workers
    failures, lost = 0, 0.0
    for jobs in rounds:
        for job in jobs:
            now = heapq.heappop(free)
            kept = 0.0
            while (left := sum(job) - kept) > (done := _until_failure(dice, failures_per_s)):
                saves = min(done, job.saved - kept) // save_every
                anew = saves * save_every if saves else 0.0
                failures, lost = failures + 1, lost + done - anew
                kept += anew
                now += done + restart
            heapq.heappush(free, now + left)
        free = [max(free)] * workers
    return Outcome(max(free), failures, lost)


def _until_failure(dice: random.Random, failures_per_s: float) -> float:
    return dice.expovariate(failures_per_s) if failures_per_s else math.inf
