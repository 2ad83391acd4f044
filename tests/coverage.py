"""``python -m tests.coverage``: how often intervals hold the truth and tests reject it wrongly.

Prints, for scenes of normal and of binomial scores near the ceiling and for several numbers of
seeds, the level of a test at 5 % of two equally good learners, and the coverage of the 95 % interval
of the accuracy of one. With one seed, both are of trained models. Takes minutes; the tests have a
short form of it.
"""

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench import stats

QUERIES = 75


@dataclass(frozen=True)
class Scene:
    """Standard deviations of the effects on accuracy, in points or, near the ceiling, in logits.

    ``seeds`` are those of the two learners; ``shared`` is of episodes, the same for both learners,
    ``own`` of episodes for one of them, ``rest`` of an episode and seed. ``accuracy`` is in percent.
    """

    seeds: tuple[float, float]
    shared: float
    own: float
    rest: float
    accuracy: float | None = None
    episodes: int = 400

    def truth(self, seeds: int) -> float:
        """The accuracy over all episodes and seeds, or of the one model where there is one."""
        if self.accuracy is None:
            return 0.0
        z, weights = np.polynomial.hermite_e.hermegauss(60)
        spread = np.linalg.norm([self.seeds[0] * (seeds > 1), self.shared, self.own, self.rest])
        return float(100 * (weights * self._share(z * spread)).sum() / weights.sum())

    def draw(self, generator: np.random.Generator, *counts: int) -> list[NDArray[np.float64]]:
        """Accuracies [S, E] of learners with these numbers of seeds, on shared episodes."""
        shared = self.shared * generator.normal(size=self.episodes)
        drawn = []
        for count, of_seeds in zip(counts, self.seeds, strict=False):
            effects = shared + self.own * generator.normal(size=self.episodes)
            effects = effects + of_seeds * generator.normal(size=(count, 1)) * (count > 1)
            effects = effects + self.rest * generator.normal(size=(count, self.episodes))
            if self.accuracy is not None:
                right = generator.binomial(QUERIES, self._share(effects))
                effects = 100 * right / QUERIES
            drawn.append(effects)
        return drawn

    def _share(self, effects: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self.accuracy is not None
        return 1 / (1 + (100 / self.accuracy - 1) * np.exp(-effects))


SCENES = {
    "seeds do not matter": Scene((0, 0), 6, 2, 5),
    "seeds matter little": Scene((0.25, 0.25), 6, 2, 5),
    "seeds matter": Scene((0.5, 0.5), 6, 2, 5),
    "seeds are all": Scene((2, 2), 6, 2, 5),
    "one learner is steady": Scene((0.1, 1), 6, 2, 5),
    "the same learner": Scene((0.5, 0.5), 6, 0, 5),
    "at 97 %": Scene((0.1, 0.1), 0.6, 0.3, 0.3, accuracy=97),
    "at 99 %": Scene((0.2, 0.2), 0.6, 0.3, 0.3, accuracy=99),
    "few episodes": Scene((0.5, 0.5), 6, 2, 5, episodes=50),
}
SEEDS = (1, 2, 3, 5, 10)
UNEQUAL = ((2, 3), (2, 10), (3, 5), (3, 10), (10, 3), (10, 2))


def runs(group: NDArray[np.float64]) -> NDArray[np.float64]:
    """A group as `bench.stats.estimate` takes it: one seed is a model as it is."""
    return group if len(group) > 1 else group[0]


def level(scene: Scene, counts: tuple[int, int], repetitions: int) -> float:
    """The share of tests at 5 % that tell two equally good learners apart."""
    found = 0
    for number in range(repetitions):
        a, b = scene.draw(np.random.default_rng(number), *counts)
        found += stats.estimate([runs(a), runs(b)], (1, -1)).p < 0.05
    return found / repetitions


def coverage(scene: Scene, seeds: int, repetitions: int) -> float:
    """The share of 95 % intervals that hold the accuracy of a learner."""
    truth, held = scene.truth(seeds), 0
    for number in range(repetitions):
        (a,) = scene.draw(np.random.default_rng(number), seeds)
        found = stats.estimate([runs(a)])
        held += abs(found.mean - truth) <= found.half
    return held / repetitions


def main(repetitions: int) -> None:
    """Print both tables in percent."""
    print(f"{repetitions} repetitions; level of pairs and coverage of one learner, %, by seeds")
    print(f"{'':24}" + "".join(f"{count:>13}" for count in SEEDS))
    for name, scene in SCENES.items():
        cells = [
            f"{100 * level(scene, (count, count), repetitions):6.1f}"
            f"{100 * coverage(scene, count, repetitions):7.1f}"
            for count in SEEDS
        ]
        print(f"{name:24}" + "".join(cells), flush=True)
    print("\nlevel of pairs with unequal numbers of seeds, %")
    print(f"{'':24}" + "".join(f"{f'{a} and {b}':>11}" for a, b in UNEQUAL))
    for name, scene in SCENES.items():
        cells = [f"{100 * level(scene, counts, repetitions):11.1f}" for counts in UNEQUAL]
        print(f"{name:24}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
