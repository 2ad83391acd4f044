"""``python -m tools.campaigns.coverage``: simulate coverage of intervals, level of tests.

Prints, for scenes of normal scores and of binomial scores near the ceiling and for several numbers
of seeds, the level of a 5 % test of two equally good learners, and the coverage of the 95 %
interval of the accuracy of one. With one seed, both are about trained models. Then prints the
coverage of intervals over classes, for the groups of test classes of real data sets, and both for
intervals over photographs. Takes minutes; the test suite runs a short form.
"""

import sys
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.stats import intervals, photos

QUERIES = 75


@dataclass(frozen=True)
class Scene:
    """Standard deviations of the effects on accuracy, in points or, near the ceiling, in logits.

    ``seeds`` are the seed effects of the two learners; ``shared`` is the episode effect common to
    both learners, ``own`` the episode effect of each learner, ``rest`` the effect of each episode
    and seed. ``score`` is in percent.
    """

    seeds: tuple[float, float]
    shared: float
    own: float
    rest: float
    score: float | None = None
    episodes: int = 400

    def truth(self, seeds: int) -> float:
        """Return the true accuracy over all episodes and seeds, or of the one model if one seed."""
        if self.score is None:
            return 0.0
        z, weights = np.polynomial.hermite_e.hermegauss(60)
        spread = np.linalg.norm([self.seeds[0] * (seeds > 1), self.shared, self.own, self.rest])
        return float(100 * (weights * self._share(z * spread)).sum() / weights.sum())

    def draw(self, generator: np.random.Generator, *counts: int) -> list[NDArray[np.float64]]:
        """Draw accuracies [S, E] of learners with these numbers of seeds, on shared episodes."""
        shared = self.shared * generator.normal(size=self.episodes)
        drawn = []
        for count, of_seeds in zip(counts, self.seeds, strict=False):
            effects = shared + self.own * generator.normal(size=self.episodes)
            effects = effects + of_seeds * generator.normal(size=(count, 1)) * (count > 1)
            effects = effects + self.rest * generator.normal(size=(count, self.episodes))
            if self.score is not None:
                right = generator.binomial(QUERIES, self._share(effects))
                effects = 100 * right / QUERIES
            drawn.append(effects)
        return drawn

    def _share(self, effects: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self.score is not None
        return 1 / (1 + (100 / self.score - 1) * np.exp(-effects))


SCENES = {
    "seeds do not matter": Scene((0, 0), 6, 2, 5),
    "seeds matter little": Scene((0.25, 0.25), 6, 2, 5),
    "seeds matter": Scene((0.5, 0.5), 6, 2, 5),
    "seeds are all": Scene((2, 2), 6, 2, 5),
    "one learner is steady": Scene((0.1, 1), 6, 2, 5),
    "the same learner": Scene((0.5, 0.5), 6, 0, 5),
    "at 97 %": Scene((0.1, 0.1), 0.6, 0.3, 0.3, score=97),
    "at 99 %": Scene((0.2, 0.2), 0.6, 0.3, 0.3, score=99),
    "few episodes": Scene((0.5, 0.5), 6, 2, 5, episodes=50),
}
SEEDS = (1, 2, 3, 5, 10)
UNEQUAL = ((2, 3), (2, 10), (3, 5), (3, 10), (10, 3), (10, 2))

GROUPS = {
    "glyphs": (26, 26, 17, 11, 7, 4, 4, 4) + 26 * (2,) + 43 * (1,),
    "glyphs_warped": (3,) + 34 * (2,) + 43 * (1,),
    "omniglot": (47, 46, 45, 42, 41, 40, 30, 28, 26, 26, 25, 23, 4),
    "cifar_fs": (3, 3, 2, 2, 2) + 8 * (1,),
    "fc100": (5, 5, 5, 5),
    "20 classes": 20 * (1,),
    "100 classes": 100 * (1,),
}
"""Numbers of test classes per group; `tests.bench.data` checks them against the data sets."""
EFFECTS = {
    "groups": (5, 0, 3),
    "groups and classes": (5, 5, 3),
    "classes": (0, 5, 3),
    "both, less": (2, 2, 5),
    "both, little": (1, 1, 5),
    "neither": (0, 0, 5),
}
"""Standard deviations of the effects of group, class, and rest of an episode, in points."""


FEW = [(ways, shots, n) for ways in (2, 3, 5) for shots in (1, 5) for n in (10, 20, 30, 60)]
"""Classes, photographs in the support set and photographs in all, both per class."""
DIMENSIONS = 3


@dataclass(frozen=True)
class Photographs:
    """Normal features of the photographs of a few classes, for two heads that are equally good.

    The heads are nearest centroids, each of features of its own.
    """

    ways: int
    shots: int
    photos: int
    distance: float = 2.0
    tasks: int = 200

    @property
    def centres(self) -> NDArray[np.float64]:
        """The means [C, 1, D] of the features of each class, at one distance from the origin."""
        drawn = np.random.default_rng(self.ways).normal(size=(self.ways, 1, DIMENSIONS))
        return self.distance * drawn / np.linalg.norm(drawn, axis=2, keepdims=True)

    @cached_property
    def truth(self) -> float:
        """The accuracy in percent over all photographs that there could be."""
        generator, right = np.random.default_rng(0), []
        for _ in range(100):
            shape = (self.ways, 2000, DIMENSIONS)
            centroids = self.centres + generator.normal(size=shape) / np.sqrt(self.shots)
            queries = self.centres + generator.normal(size=shape)
            near = ((queries[:, None] - centroids) ** 2).sum(-1).argmin(1)
            right.append((near == np.arange(self.ways)[:, None]).mean())
        return float(100 * np.mean(right))

    def draw(self, number: int) -> list[NDArray[np.float64]]:
        """Return the pseudo-values of both heads on photographs of that number."""
        generator = np.random.default_rng(number)
        order = generator.random((self.tasks, self.ways, self.photos)).argpartition(self.shots, 2)
        support, classes = order[:, :, : self.shots], np.arange(self.ways)
        of_photo = np.repeat(classes, self.photos)
        found = []
        for _ in range(2):
            noise = generator.normal(size=(self.ways, self.photos, DIMENSIONS))
            features = self.centres + noise
            centroids = features[classes[:, None], support].mean(2)
            scores = features.reshape(-1, DIMENSIONS) @ centroids.reshape(-1, DIMENSIONS).T
            scores = scores.reshape(-1, *centroids.shape[:2]) - (centroids**2).sum(2) / 2
            answers = scores.argmax(2).T.reshape(order.shape)
            np.put_along_axis(answers, support, photos.NOT_ASKED, 2)
            found.append(photos.pseudo_values(answers.reshape(self.tasks, -1), of_photo))
        return found


def runs(group: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return accuracies in the format of `bench.stats.intervals.estimate`: [E] if one seed."""
    return group if len(group) > 1 else group[0]


def level(scene: Scene, counts: tuple[int, int], repetitions: int) -> float:
    """Return the fraction of 5 % tests that reject for two equally good learners."""
    found = 0
    for number in range(repetitions):
        a, b = scene.draw(np.random.default_rng(number), *counts)
        found += intervals.estimate([runs(a), runs(b)], (1, -1)).p < 0.05
    return found / repetitions


def coverage(scene: Scene, seeds: int, repetitions: int) -> float:
    """Return the fraction of 95 % intervals that contain the accuracy of a learner."""
    truth, held = scene.truth(seeds), 0
    for number in range(repetitions):
        (a,) = scene.draw(np.random.default_rng(number), seeds)
        found = intervals.estimate([runs(a)])
        held += abs(found.mean - truth) <= found.half
    return held / repetitions


def class_coverage(
    sizes: tuple[int, ...],
    effects: tuple[float, float, float],
    repetitions: int,
    grouped: bool = True,
    ways: int = 5,
    episodes: int = 400,
) -> float:
    """Return the fraction of 95 % intervals over classes that contain the accuracy of one model.

    ``sizes`` are the numbers of classes per group; if not ``grouped``, the interval treats each
    class as its own group. Blocks of 20 repetitions share their episodes and differ in effects.
    """
    groups = np.repeat(np.arange(len(sizes)), sizes)
    held = 0
    for number in range(repetitions):
        generator = np.random.default_rng(number)
        if number % 20 == 0:
            order = generator.random((episodes, len(groups))).argpartition(ways, 1)
            chosen = order[:, :ways]
            design = intervals.ClassDesign.of(groups[chosen] if grouped else chosen)
        of_group, of_class, rest = effects
        effect = of_group * generator.normal(size=len(sizes))[groups]
        effect += of_class * generator.normal(size=len(groups))
        values = effect[chosen].mean(1) + rest * generator.normal(size=episodes)
        found = intervals.estimate([values], classes=design)
        held += abs(found.mean) <= found.half
    return held / repetitions


def photo_coverage(scene: Photographs, repetitions: int) -> tuple[float, float]:
    """Return the coverage of intervals over photographs, and the level of tests of equal heads."""
    held = rejected = 0
    for number in range(repetitions):
        both = scene.draw(number)
        for values in both:
            mean, half = photos.interval(values)
            held += abs(mean - scene.truth) <= half
        rejected += intervals.estimate(both, (1, -1)).p < 0.05
    return held / (2 * repetitions), rejected / repetitions


def main(repetitions: int) -> None:
    """Print all tables in percent."""
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
    print_classes(repetitions)
    print_photographs(repetitions)


def print_classes(repetitions: int) -> None:
    """Print the coverage of intervals over classes in percent, with and without groups."""
    print(
        "\ncoverage of the interval over classes, %: over groups, and taking classes as independent"
    )
    print(f"{'':16}" + "".join(f"{name:>20}" for name in EFFECTS))
    for name, sizes in GROUPS.items():
        cells = [
            f"{100 * class_coverage(sizes, effects, repetitions):12.1f}"
            f"{100 * class_coverage(sizes, effects, repetitions, grouped=False):8.1f}"
            for effects in EFFECTS.values()
        ]
        print(f"{name:16}" + "".join(cells), flush=True)


def print_photographs(repetitions: int) -> None:
    """Print coverage and level over photographs in percent, at two difficulties."""
    print("\nphotographs of a few classes, %: accuracy, coverage of one head, level of pairs")
    print(f"{'classes, shots, photos':24}{'hard':>21}{'easy':>21}")
    for ways, shots, count in FEW:
        cells = []
        for distance in (1.5, 2.5):
            scene = Photographs(ways, shots, count, distance)
            held, rejected = photo_coverage(scene, repetitions)
            cells.append(f"{scene.truth:7.1f}{100 * held:7.1f}{100 * rejected:7.1f}")
        print(f"{f'{ways}, {shots}, {count}':24}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
