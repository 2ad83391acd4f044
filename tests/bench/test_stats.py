import math
from itertools import product

import numpy as np
import pytest
import scipy.stats
import torch

from bench import stats
from bench.stats import mean_ci95, quartiles

DRAWS = 2000


def coverage(draw, half, truth: float = 0.0, draws: int = DRAWS) -> float:
    """The share of intervals mean +- half that hold the truth; ``draw`` gives values and the rest."""
    covered = 0
    for number in range(draws):
        values, *rest = draw(np.random.default_rng(number))
        covered += abs(np.mean(values) - truth) <= half(values, *rest)
    return covered / draws


def test_interval_by_hand():
    """Of 90, 92, 94, 96: mean 93, variance (9 + 1 + 1 + 9) / 3."""
    mean, half = mean_ci95(torch.tensor([90.0, 92.0, 94.0, 96.0]))
    assert mean == 93
    assert half == pytest.approx(1.96 * math.sqrt(20 / 3) / 2)


def test_the_interval_covers_what_it_says():
    """Accuracies of episodes with 75 queries, whose difficulty varies: 95 % of intervals cover."""
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(2000):
        difficulty = 0.9 + 0.05 * (torch.rand(600, generator=generator) - 0.5)
        right = torch.rand(600, 75, generator=generator) < difficulty[:, None]
        mean, half = mean_ci95(100 * right.double().mean(1))
        covered += abs(mean - 90) <= half
    assert 0.93 <= covered / 2000 <= 0.97


def test_quartiles_by_hand():
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 3.0, 4.0)


def test_interval_over_seeds_by_hand_and_by_simulation():
    """Of 1, 2, 3: standard error 1 / sqrt(3), t quantile of two degrees of freedom 4.3027."""
    assert stats.half_over_seeds([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / math.sqrt(3))
    assert 0.93 <= coverage(lambda g: [g.normal(size=5)], stats.half_over_seeds) <= 0.97


def crossed(seed: float, episode: float, rest: float, seeds: int = 3, episodes: int = 60):
    """Accuracies [S, E] with effects of seeds and of episodes of these standard deviations."""

    def draw(generator: np.random.Generator) -> list[np.ndarray]:
        return [
            seed * generator.normal(size=(seeds, 1))
            + episode * generator.normal(size=(1, episodes))
            + rest * generator.normal(size=(seeds, episodes))
        ]

    return draw


@pytest.mark.parametrize("effects", [(1, 4, 3), (0.3, 6, 4), (3, 4, 3), (0.0, 0.5, 5)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_interval_over_seeds_and_episodes_covers(effects, seeds):
    held = coverage(crossed(*effects, seeds=seeds), stats.half_over_seeds_and_episodes)
    assert 0.93 <= held <= 0.98


def test_interval_over_seeds_and_episodes_is_that_of_either_alone_in_the_limit():
    generator = np.random.default_rng(0)
    by_seed = generator.normal(size=(4, 1)) + np.zeros((4, 50))
    by_hand = stats.half_over_seeds(list(by_seed[:, 0]))
    assert stats.half_over_seeds_and_episodes(by_seed) == pytest.approx(by_hand)
    by_episode = generator.normal(size=50) + np.zeros((4, 50))
    t = scipy.stats.t.ppf(0.975, 49)
    by_hand = t * by_episode[0].std(ddof=1) / math.sqrt(50)
    assert stats.half_over_seeds_and_episodes(by_episode) == pytest.approx(by_hand)
    assert stats.half_over_seeds_and_episodes(np.ones((3, 9))) == 0


def shared(classes: int, ways: int, effect: float, image: float, rest: float):
    """Accuracies of 600 episodes from a few classes of 20 images each, themselves drawn by chance."""

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        of_class = effect * generator.normal(size=classes)
        of_image = image * generator.normal(size=(classes, 20))
        chosen = generator.random((600, classes)).argpartition(ways, 1)[:, :ways]
        shown = generator.integers(0, 20, (600, ways, 5))
        effects = of_class[chosen] + of_image[chosen[..., None], shown].mean(-1)
        return effects.mean(1) + rest * generator.normal(size=600), chosen

    return draw


SCENES = {
    "classes matter": (100, 5, 5, 3, 3),
    "few classes": (20, 5, 5, 0, 5),
    "only images": (60, 5, 0, 10, 5),
    "many ways": (100, 20, 5, 3, 1),
    "half of the classes": (40, 20, 5, 0, 3),
}


@pytest.mark.parametrize("scene", SCENES)
def test_interval_over_classes_covers_and_the_usual_one_does_not(scene):
    draw = shared(*SCENES[scene])
    assert 0.93 <= coverage(draw, stats.half_over_classes, draws=1000) <= 0.98
    assert coverage(draw, lambda y, _: mean_ci95(y)[1], draws=500) < 0.85


def test_interval_over_classes_is_the_usual_one_where_classes_do_not_matter():
    draw = shared(200, 5, 0, 0, 5)
    assert 0.93 <= coverage(draw, stats.half_over_classes, draws=1000) <= 0.97
    drawn = [draw(np.random.default_rng(n)) for n in range(50)]
    ratios = [stats.half_over_classes(y, classes) / mean_ci95(y)[1] for y, classes in drawn]
    assert 1 <= np.mean(ratios) <= 1.2  # a variance of classes is never below zero


def test_interval_over_classes_needs_episodes_without_a_class():
    values, classes = shared(5, 4, 1, 0, 1)(np.random.default_rng(0))
    assert stats.half_over_classes(values, classes) is not None
    assert stats.half_over_classes(values, np.tile(np.arange(5), (600, 1))) is None


def test_sign_flips_are_all_of_them_where_there_are_few():
    """Of 1, 2, 4, 8 and 16, two of the 32 sign patterns are as extreme; drawn ones come near."""
    d = [1.0, 2.0, 4.0, 8.0, -16.0]
    sums = [abs(np.dot(signs, d)) for signs in product((-1, 1), repeat=5)]
    exact = np.mean(np.array(sums) >= abs(sum(d)))
    assert stats.sign_flip_p(d, flips=200_000) == pytest.approx(exact, abs=0.005)


def test_sign_flips_are_those_of_scipy():
    d = np.random.default_rng(1).normal(0.15, 1, 100)
    theirs = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert stats.sign_flip_p(d, flips=20_000) == pytest.approx(theirs.pvalue, abs=0.015)


def test_sign_flips_reject_at_their_level_and_repeat():
    """Skewed, tied and of unequal spread, but alike: 4 to 6 % of p are below 5 %."""

    def alike(g: np.random.Generator) -> np.ndarray:
        right = g.binomial(75, g.uniform(0.8, 1, 80), (2, 80))
        return (right[0] - right[1]) / 0.75

    ps = [stats.sign_flip_p(alike(np.random.default_rng(n)), 499) for n in range(4000)]
    assert 0.04 <= np.mean(np.array(ps) <= 0.05) <= 0.06
    assert stats.sign_flip_p(np.zeros(9)) == 1
    d = alike(np.random.default_rng(0))
    assert stats.sign_flip_p(d) == stats.sign_flip_p(d)
    assert stats.sign_flip_p(d, seed=1) != stats.sign_flip_p(d)
    assert stats.sign_flip_p(np.ones(50)) == 1 / 10_000


def test_holm_by_hand_and_as_often_wrong_as_it_says():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert stats.holm([]) == []
    ps = np.random.default_rng(0).random((4000, 6))
    wrong = np.mean([min(stats.holm(list(row))) < 0.05 for row in ps])
    assert 0.04 <= wrong <= 0.06


def test_effects_by_hand():
    d = [2.0, 0.0, -1.0, 3.0]
    assert stats.superiority(d) == (2 + 0.5) / 4
    deviation = math.sqrt((1 + 1 + 4 + 4) / 3)
    assert stats.effect_size(d) == pytest.approx(1 / deviation)
    assert stats.effect_size([0.0, 0.0]) == 0
    assert stats.effect_size([-1.0, -1.0]) == -math.inf
    assert stats.episodes_to_separate([1.0, -1.0]) == math.inf
    assert stats.episodes_to_separate([1.0, 1.0]) == 2


def test_the_bootstrap_repeats_and_is_that_of_scipy():
    d = np.random.default_rng(5).gamma(2.0, 3.0, 80) - 4
    low, high = stats.effect_size_ci95(d)
    assert (low, high) == stats.effect_size_ci95(d)
    assert (low, high) != stats.effect_size_ci95(d, seed=1)
    theirs = scipy.stats.bootstrap(
        (d,),
        lambda x, axis: x.mean(axis) / x.std(axis, ddof=1),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = stats.effect_size_ci95(d, resamples=20_000)
    assert found == pytest.approx(tuple(theirs), abs=0.01)
    assert stats.effect_size_ci95(np.zeros(9)) == (0, 0)
    assert stats.effect_size_ci95(np.full(9, -2.0)) == (-math.inf, -math.inf)


def test_the_bootstrap_covers_what_it_says():
    """Skewed differences of a true effect size of 0.3, over 200 episodes."""
    covered = 0
    for number in range(DRAWS):
        d = np.random.default_rng(number).gamma(4.0, 0.5, 200) - 2 + 0.3
        low, high = stats.effect_size_ci95(d, resamples=399)
        covered += low <= 0.3 <= high
    assert 0.93 <= covered / DRAWS <= 0.97


def test_episodes_to_separate_find_it_in_four_of_five_tests():
    generator = np.random.default_rng(0)
    d = generator.normal(size=200_000)
    d += 0.25 * d.std() - d.mean()
    count = stats.episodes_to_separate(d)
    assert count == math.ceil(7.8489 / 0.0625)
    found = [
        stats.sign_flip_p(generator.normal(0.25, 1, int(count)), 499) <= 0.05 for _ in range(1000)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)
