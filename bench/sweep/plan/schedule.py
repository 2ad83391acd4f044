"""Simulation of jobs on several workers: when the last one ends, and the cost of failures."""

import heapq
import math
import random
from collections.abc import Sequence
from typing import NamedTuple


class Job(NamedTuple):
    """The durations in seconds of a cell's two consecutive parts.

    ``saved``, its training and validations, survives a failure up to the last checkpoint;
    ``unsaved``, its test and speed measurement, is repeated.
    """

    saved: float
    unsaved: float


LEAST_CHANCE = 0.001
"""Below this probability of reaching the next save, or the end of the test, a job counts as endless."""


class Outcome(NamedTuple):
    """Seconds until the last job ended, number of failures, and seconds of lost work.

    All are infinite if a worker fails so often that a job does not end.
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
    """Simulate jobs on workers, each of which takes the next job in order when it is free.

    A round of jobs begins when all jobs of the previous one have ended. A busy worker fails at
    random at a rate of ``failures_per_s`` (a Poisson process), is back after ``restart`` seconds,
    and resumes its job from the last save: ``save_every`` seconds of work lie between two saves.
    ``seed`` is the seed of the failures.
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
