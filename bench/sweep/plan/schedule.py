"""Wall time of jobs on several workers."""

import heapq
from collections.abc import Sequence


def wall_seconds(rounds: Sequence[Sequence[float]], workers: int) -> float:
    """Return the seconds until the last job has ended; each worker takes the next one when free.

    A job is its duration in seconds. A round begins when all jobs of the previous one have ended.
    """
    free = [0.0] * workers
    for jobs in rounds:
        for seconds in jobs:
            heapq.heapreplace(free, free[0] + seconds)
        free = [max(free)] * workers
    return max(free)
