"""``python -m tools.campaigns.replications``: simulate verdicts of `replication.verdict`.

A published figure is that of one training; several seeds replicate it, whose true mean is
``behind`` points worse. Accuracies of episodes are binomial, with an episode effect that seeds
share and an effect of episode and seed.
"""

import argparse
import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from bench.stats.replication import verdict

KINDS = ((60.0, 75, 600, 600), (95.0, 75, 600, 600), (98.5, 25, 600, 600), (98.5, 5, 1000, 10_000))
"""Accuracy in percent, queries per episode, our test episodes and theirs."""
DEVIATIONS = (0.1, 0.3, 0.6)
"""Standard deviations over training seeds, in points."""


def scores(
    generator: np.random.Generator, seeds: int, episodes: int, queries: int, mean: float, sd: float
) -> NDArray[np.float64]:
    """Draw accuracies [S, E] in percent."""
    each = np.clip(mean + generator.normal(0, sd, (seeds, 1)), 1, 99.97) / 100
    logits = np.log(each / (1 - each)) + generator.normal(0, 0.5, (1, episodes))
    logits = logits + generator.normal(0, 0.3, (seeds, episodes))
    return 100 * generator.binomial(queries, 1 / (1 + np.exp(-logits))) / queries


def verdicts(
    seeds: int,
    behind: float,
    sd: float,
    kind: tuple[float, int, int, int],
    count: int,
) -> Counter[str]:
    """Return how often each verdict is given."""
    generator = np.random.default_rng(0)
    mean, queries, ours, theirs = kind
    found: Counter[str] = Counter()
    for _ in range(count):
        y = scores(generator, seeds, ours, queries, mean - behind, sd)
        claim = scores(generator, 1, theirs, queries, mean, sd)[0]
        half = 1.96 * claim.std(ddof=1) / math.sqrt(theirs)
        half = max(half, 1.96 * float(y.std(axis=1, ddof=1).mean()) / math.sqrt(theirs))
        found[verdict(y, float(claim.mean()), half)] += 1
    return found


def main() -> None:
    """Print a line for each number of seeds, true difference, kind of accuracy and deviation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 5, 10])
    parser.add_argument("--behind", type=float, nargs="+", default=[0.0, 1.0, 2.0])
    given = parser.parse_args()
    for seeds in given.seeds:
        for behind in given.behind:
            for kind in KINDS:
                for sd in DEVIATIONS:
                    found = verdicts(seeds, behind, sd, kind, given.count)
                    said = ", ".join(
                        f"{word} {100 * n / given.count:.1f} %" for word, n in found.most_common()
                    )
                    print(f"{seeds} seeds, {behind:g} behind, {kind}, sd {sd}: {said}", flush=True)


if __name__ == "__main__":
    main()
