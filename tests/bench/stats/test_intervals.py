import math

import numpy as np
import pytest
import scipy.stats
import torch

from bench.stats import intervals
from bench.stats.intervals import mean_ci95, quartiles
from tools.campaigns.coverage import EFFECTS, GROUPS, SCENES, class_coverage, coverage, level

DRAWS = 2000


def covered(draw, half, draws: int = DRAWS) -> float:
    """The share of intervals mean +- half that hold zero; ``draw`` gives values and the rest."""
    held = 0
    for number in range(draws):
        values, *rest = draw(np.random.default_rng(number))
        held += abs(np.mean(values)) <= half(values, *rest)
    return held / draws


def half_over_classes(values, classes) -> float:
    return intervals.estimate([values], classes=intervals.ClassDesign.of(classes)).half


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


def test_an_estimate_over_seeds_and_episodes_by_hand():
    """Two seeds and three episodes whose effects add up, with no rest."""
    seeds, episodes = np.array([[10.0], [14.0]]), np.array([0.0, 3.0, 6.0])
    found = intervals.estimate([seeds + episodes])
    of_seeds, of_episodes = 8 / 2, 9 / 3  # variances of 10, 14 and of 0, 3, 6, by their numbers
    share = of_seeds / (of_seeds + of_episodes)
    t_seeds, t_episodes = scipy.stats.t.ppf(0.975, [1, 2])
    square = t_episodes**2 + (t_seeds**2 - t_episodes**2) * share**1.5
    assert found.mean == pytest.approx(15)
    assert found.error == pytest.approx(math.sqrt(of_seeds + of_episodes))
    assert found.half == pytest.approx(math.sqrt(square * (of_seeds + of_episodes)))


def test_the_rest_is_not_counted_twice():
    """Of noise alone, [S, E] numbers of variance R, the error is that of a mean of S E numbers."""
    errors = []
    for number in range(200):
        y = np.random.default_rng(number).normal(size=(5, 40))
        errors.append(intervals.estimate([y]).error ** 2 * y.size)
    assert 1 <= np.mean(errors) <= 1.25  # the variance of episodes is never below zero
    both = [np.random.default_rng(n).normal(size=(n + 2, 40)) for n in range(2)]
    by_hand = [y.mean(1).var(ddof=1) / len(y) for y in both]
    assert intervals.estimate(both, (1, -1)).error ** 2 >= sum(by_hand)


def test_an_estimate_is_that_of_either_alone_in_the_limit():
    generator = np.random.default_rng(0)
    by_seed = generator.normal(size=(4, 1)) + np.zeros((4, 50))
    found, alone = intervals.estimate([by_seed]), by_seed[:, 0]
    by_hand = scipy.stats.ttest_1samp(alone, 0)
    assert found.p == pytest.approx(by_hand.pvalue)
    assert found.mean + found.half == pytest.approx(by_hand.confidence_interval().high)
    a, b = by_seed, 0.5 + 3 * generator.normal(size=(3, 1)) + np.zeros((3, 50))
    welch = scipy.stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False)
    assert intervals.estimate([a, b], (1, -1)).p == pytest.approx(welch.pvalue)
    one, other = generator.normal(size=(2, 50))
    paired = scipy.stats.ttest_rel(one, other)
    assert intervals.estimate([one, other], (1, -1)).p == pytest.approx(paired.pvalue)
    alike = intervals.estimate([np.ones((3, 9))])
    assert (alike.error, alike.half, alike.p) == (0, 0, 0)
    assert intervals.estimate([np.zeros((3, 9))]).p == 1


def test_a_test_rejects_exactly_where_the_interval_excludes_zero():
    rejected = 0
    for number in range(300):
        generator = np.random.default_rng(number)
        a, b = SCENES["seeds matter"].draw(generator, *generator.integers(2, 5, 2))
        found = intervals.estimate([a + 1, b], (1, -1))
        assert (found.p < 0.05) == (abs(found.mean) > found.half)
        rejected += found.p < 0.05
    assert 30 < rejected < 270


@pytest.mark.parametrize("level", [0.2, 0.05, 0.05 / 120])
def test_the_quantile_is_between_those_of_seeds_and_episodes_at_every_level(level):
    """What a correction for many pairs asks is far out, where few seeds know little."""
    y = np.array([[10.0], [14.0]]) + np.array([0.0, 3.0, 6.0, 9.0])
    share = 4 / (4 + 15 / 4)
    t_seeds, t_episodes = scipy.stats.t.ppf(1 - level / 2, [1, 3])
    t = math.sqrt(t_episodes**2 + (t_seeds**2 - t_episodes**2) * share**1.5)
    error = intervals.estimate([y]).error
    assert intervals.estimate([y - y.mean() - t * error]).p == pytest.approx(level)
    assert intervals.estimate([y - y.mean()]).p_beyond(t * error) == pytest.approx(level / 2)


def test_equivalence_is_two_one_sided_tests():
    """As scipy's one-sided tests of the differences against either margin (Schuirmann 1987)."""
    d = np.random.default_rng(2).normal(0.3, 2, 60)
    sides = [
        scipy.stats.ttest_1samp(d, 1, alternative="less").pvalue,
        scipy.stats.ttest_1samp(d, -1, alternative="greater").pvalue,
    ]
    assert intervals.estimate([d]).p_beyond(1) == pytest.approx(max(sides))
    assert intervals.estimate([np.zeros(5)]).p_beyond(1) == 0
    assert intervals.estimate([np.full(5, 2.0)]).p_beyond(1) == 1


def test_learners_at_the_margin_are_rarely_called_equivalent():
    wrong = 0
    for number in range(1000):
        a, b = SCENES["seeds matter little"].draw(np.random.default_rng(number), 3, 3)
        wrong += intervals.estimate([a + 1, b], (1, -1)).p_beyond(1) < 0.05
    assert 0.03 <= wrong / 1000 <= 0.06


@pytest.mark.parametrize(
    ("scene", "seeds"),
    [("seeds matter", 1), ("one learner is steady", 3), ("at 97 %", 3), ("the same learner", 5)],
)
def test_levels_and_coverage(scene, seeds):
    """A sample of the campaign, with three standard errors of room."""
    assert 0.025 <= level(SCENES[scene], (seeds, seeds), 1000) <= 0.07
    assert 0.93 <= coverage(SCENES[scene], seeds, 1000) <= 0.98


def test_of_two_seeds_alone_the_test_is_careful():
    assert level(SCENES["the same learner"], (2, 2), 1000) <= 0.05


def test_without_episodes_an_estimate_is_no_narrower_than_with_them():
    a, _ = SCENES["seeds matter"].draw(np.random.default_rng(0), 3, 3)
    known = intervals.estimate([a])
    halves = [mean_ci95(run)[1] for run in a]
    found = intervals.estimate_without_episodes(list(a.mean(1)), halves)
    assert found.mean == pytest.approx(known.mean)
    assert known.error <= found.error <= 1.5 * known.error


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


CLASS_SCENES = {
    "classes matter": (100, 5, 5, 3, 3),
    "few classes": (20, 5, 5, 0, 5),
    "only images": (60, 5, 0, 10, 5),
    "many ways": (100, 20, 5, 3, 1),
    "half of the classes": (40, 20, 5, 0, 3),
}


@pytest.mark.parametrize("scene", CLASS_SCENES)
def test_interval_over_classes_covers_and_the_usual_one_does_not(scene):
    draw = shared(*CLASS_SCENES[scene])
    assert 0.92 <= covered(draw, half_over_classes, draws=300) <= 0.985
    assert covered(draw, lambda y, _: mean_ci95(y)[1], draws=300) < 0.85


def test_interval_over_classes_is_hardly_wider_where_classes_do_not_matter():
    draw = shared(200, 5, 0, 0, 5)
    drawn = [draw(np.random.default_rng(n)) for n in range(50)]
    ratios = [half_over_classes(y, classes) / mean_ci95(y)[1] for y, classes in drawn]
    assert 1 <= np.mean(ratios) <= 1.2  # a variance of classes is never below zero


@pytest.mark.parametrize("effects", ["groups", "both, less"])
@pytest.mark.parametrize("dataset", ["glyphs", "glyphs_warped", "cifar_fs", "fc100"])
def test_interval_over_groups_covers_what_it_says(dataset, effects):
    assert 0.92 <= class_coverage(GROUPS[dataset], EFFECTS[effects], 600) <= 0.98


def test_alike_classes_are_not_independent():
    """The interval of before, which took accented forms of a letter for new letters, held 57 to 71 %."""
    assert class_coverage(GROUPS["glyphs"], EFFECTS["groups"], 200, grouped=False) < 0.8


def test_the_variance_over_groups_by_hand():
    """Three groups of three episodes of one class: between them 24, within them 30.

    With s = 1 + 3 lambda, the derivative of the penalised likelihood is zero at s = 4:
    2 * 8 * (24 / 30) / (24 / 30 + s) - 2 * 2 + s / (s - 1) = 8 / 3 - 4 + 4 / 3. So R = (24 / 4 + 30) / 8
    = 4.5 and V = 4.5, and the mean has the variance 4.5 * 3 / 9 + 4.5 / 9 = 2.
    """
    y = 70 + np.add.outer([-2, 0, 2], math.sqrt(5) * np.array([-1, 0, 1])).ravel()
    design = intervals.ClassDesign.of(np.repeat([7, 3, 9], 3)[:, None])
    assert intervals.over_classes(y, design) == (pytest.approx(2.0), 2)


@pytest.mark.parametrize("effect", [5.0, 1.0, 0.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_variance_over_groups_has_the_greatest_penalised_likelihood(effect, seed):
    """By the covariance of all episodes, on a grid."""
    draw, count, episodes = np.random.default_rng(seed), 6, 40
    groups = np.array([draw.choice(12, 3, replace=False) for _ in range(episodes)]) % count
    y = 80 + effect * draw.normal(size=count)[groups].sum(1) + draw.normal(size=episodes)
    counts = np.array([np.bincount(each, minlength=count) for each in groups])
    ones, found = np.ones(episodes), []
    for log_ratio in np.linspace(-7, 5, 1201):
        shape = np.eye(episodes) + math.exp(log_ratio) * counts @ counts.T
        inverse = np.linalg.inv(shape)
        project = inverse - np.outer(inverse @ ones, ones @ inverse) / (ones @ inverse @ ones)
        rest = y @ project @ y / (episodes - 1)
        likelihood = -(episodes - 1) * math.log(rest) - np.linalg.slogdet(shape)[1]
        likelihood -= math.log(ones @ inverse @ ones)
        shares = counts.mean(0)
        variance = rest * (math.exp(log_ratio) * shares @ shares + 1 / episodes)
        found.append((likelihood / 2 + log_ratio / 4, variance))
    made, df = intervals.over_classes(y, intervals.ClassDesign.of(groups))
    assert made == pytest.approx(max(found)[1], rel=0.02) and df == count - 1


def test_where_episodes_share_all_groups_alike_nothing_is_told_of_others():
    assert intervals.ClassDesign.of(np.array([[0, 1], [1, 0], [0, 1]])) is None
    assert intervals.ClassDesign.of(np.zeros((4, 3), np.int64)) is None
    assert intervals.ClassDesign.of(np.array([[0, 0], [1, 0], [0, 0]])) is not None


def test_equal_accuracies_have_no_variance_over_groups():
    design = intervals.ClassDesign.of(np.array([[0], [1], [2]]))
    for y in ([50, 50, 50], [50, 50 + 1e-9, 50], [1e-160, 0, 0]):
        assert intervals.over_classes(y, design) == (0, 2)


def test_holm_by_hand_and_as_often_wrong_as_it_says():
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert intervals.holm([]) == []
    ps = np.random.default_rng(0).random((4000, 6))
    wrong = np.mean([min(intervals.holm(list(row))) < 0.05 for row in ps])
    assert 0.04 <= wrong <= 0.06


def test_effects_by_hand():
    first, second = np.array([[2.0, 5, 4, 8], [4.0, 5, 4, 8]]), np.array([[0.0, 5, 5, 5]])
    assert intervals.superiority(first, second) == (2 + 0.5) / 4
    deviations = [np.std([2, 0, -1, 3], ddof=1), np.std([4, 0, -1, 3], ddof=1)]
    spread = intervals.spread_of_runs(first, second)
    assert spread == pytest.approx(math.sqrt(np.mean(np.square(deviations))))
    assert intervals.effect_size(1.25, 2.5) == 0.5
    assert intervals.effect_size(0.0, 0.0) == 0
    assert intervals.effect_size(-1.0, 0.0) == -math.inf
    assert intervals.episodes_to_separate(0.0) == math.inf
    assert intervals.episodes_to_separate(math.inf) == 2


def test_effects_are_of_single_runs_however_many_seeds_there_are():
    found = {}
    for seeds in (1, 3, 10):
        drawn = []
        for number in range(40):
            a, b = SCENES["seeds matter"].draw(np.random.default_rng(number), seeds, seeds)
            a = a + 1
            effect = intervals.effect_size(a.mean() - b.mean(), intervals.spread_of_runs(a, b))
            drawn.append((effect, intervals.superiority(a, b)))
        found[seeds] = np.mean(drawn, axis=0)
    for seeds in (3, 10):
        assert found[seeds] == pytest.approx(found[1], abs=0.015)


def test_ties_of_single_runs_are_found_in_spite_of_rounding():
    """Of three seeds with the same right answers, which a mean of thirds would not show."""
    answers = np.random.default_rng(0).integers(60, 75, (3, 200)) / 0.75
    assert intervals.superiority(answers[:1], answers[:1] + 1e-9) == 0.5
    assert intervals.superiority(answers, answers[::-1]) == pytest.approx(0.5)
    ties = np.mean([a == b for a in answers for b in answers])
    assert intervals.superiority(answers, answers + 0.5 / 0.75) == pytest.approx(
        np.mean([a > b for a in answers for b in answers]), abs=1e-12
    )
    assert ties > 0.3


def test_episodes_to_separate_find_it_in_four_of_five_tests():
    generator = np.random.default_rng(0)
    count = intervals.episodes_to_separate(0.25)
    assert count == math.ceil(7.8489 / 0.0625)
    found = [
        intervals.estimate([generator.normal(0.25, 1, int(count))]).p < 0.05 for _ in range(1000)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_aggregates_over_settings_by_hand():
    assert list(intervals.interquartile_means([[8.0, 1, 2, 3, 4, 5, 6, 7], [1.0] * 8])) == [4.5, 1]
    assert intervals.interquartile_means([1.0, 2.0]) == 1.5
    assert intervals.interquartile_means([9.0, 0, 6, 3, 12]) == pytest.approx((0.75 * 12 + 6) / 2.5)
    assert list(intervals.mean_ranks([[9.0, 5], [8.0, 5], [7.0, 6]])) == [1.75, 2.25, 2]
    generator = np.random.default_rng(0)
    shared = 8 * generator.normal(size=(2, 300))
    runs = [
        [50 + better + luck + shared[m] for m in range(2)]
        for better, luck in ((2, 0.1 * generator.normal(size=(3, 1))), (0, np.zeros((1, 1))))
    ]
    middles, ranks = intervals.aggregates(runs)
    assert ranks.tolist() == [[1, 1, 1], [2, 2, 2]], "on the same episodes, always"
    value, low, high = middles[1]
    assert value == pytest.approx(50 + shared.mean())
    assert high - low == pytest.approx(2 * 1.96 * 8 / math.sqrt(600), rel=0.15)


def test_an_interquartile_mean_of_unequal_settings_is_in_its_interval():
    """The bootstrap has fewer runs of each setting, of which the middle half must be as wide."""
    scene, settings = SCENES["seeds matter little"], np.array([80.0, 95.0, 98.0])
    truth, held = intervals.interquartile_means(settings), 0
    for number in range(100):
        generator = np.random.default_rng(number)
        runs = [mean + scene.draw(generator, 3)[0] for mean in settings]
        ((value, low, high),), _ = intervals.aggregates([runs], 199)
        assert low < value < high
        held += low <= truth <= high
    assert held >= 90


def test_aggregates_cover_what_they_say():
    held = 0
    for number in range(200):
        generator = np.random.default_rng(number)
        scene = SCENES["seeds matter"]
        runs = [scene.draw(generator, 5)[0] for _ in range(4)]
        ((_, low, high),), _ = intervals.aggregates([runs], 199)
        held += low <= 0 <= high
    assert 0.88 <= held / 200 <= 0.99
