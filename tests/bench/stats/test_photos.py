"""Intervals over photographs: by hand, and by simulation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from bench.stats import photos
from tools.campaigns.coverage import Photographs, photo_coverage

CLASSES = np.array([0, 0, 0, 1, 1, 1, 1])


def every_task(right) -> np.ndarray:
    """The answers of all 1-shot tasks of two classes, twice; right(support, query) says if right."""
    tasks = []
    for support in itertools.product(range(3), range(3, 7)):
        answers = [c if right(support, n) else 1 - c for n, c in enumerate(CLASSES)]
        for photo in support:
            answers[photo] = photos.NOT_ASKED
        tasks += 2 * [answers]
    return np.array(tasks)


def accuracy(answers: np.ndarray, without: int | None = None) -> float:
    """The mean over classes and tasks, of tasks and queries without a photograph."""
    found = []
    for task in answers:
        asked = [n for n in range(7) if task[n] != photos.NOT_ASKED and n != without]
        if without is None or task[without] != photos.NOT_ASKED:
            by_class = [[task[n] == c for n in asked if CLASSES[n] == c] for c in (0, 1)]
            found.append(100 * np.mean([np.mean(each) for each in by_class]))
    return float(np.mean(found))


def test_pseudo_values_are_those_of_the_jackknife():
    answers = every_task(lambda support, query: (sum(support) * (query + 1)) % 3 > 0)
    values = photos.pseudo_values(answers, CLASSES)
    assert values.mean() == pytest.approx(accuracy(answers))
    variance = 0.0
    for c, size in ((0, 3), (1, 4)):
        without = [accuracy(answers, n) for n in np.flatnonzero(c == CLASSES)]
        variance += (size - 1) / size * ((without - np.mean(without)) ** 2).sum()
    # both halves of the tasks are the same, so that there is no luck of the draw to leave out
    assert values.var(ddof=1) / 7 == pytest.approx(variance)
    worst = min(range(3), key=lambda n: values[n])
    assert accuracy(answers, worst) == max(accuracy(answers, n) for n in range(3))


def test_the_accuracy_of_one_class():
    answers = every_task(lambda support, query: query != 1)
    assert photos.pseudo_values(answers, CLASSES, 1) == pytest.approx(100 * np.ones(7))
    assert photos.pseudo_values(answers, CLASSES, 0).mean() == pytest.approx(200 / 3)


def test_the_luck_of_the_tasks_is_left_out():
    """Of tasks whose answers are chance, photographs differ less than their pseudo-values would."""
    generator = np.random.default_rng(0)
    classes = np.repeat([0, 1], 30)
    answers = generator.integers(0, 2, (40, 60))
    order = generator.random((40, 2, 30)).argpartition(15, 2)[:, :, :15] + [[0], [30]]
    np.put_along_axis(answers, order.reshape(40, -1), photos.NOT_ASKED, 1)
    _, effects = photos._jackknife(answers, classes, np.ones(2))
    assert photos.pseudo_values(answers, classes).std() < 100 * effects.std() / 2


def test_the_interval_by_hand():
    values = np.array([100.0, 50.0, 100.0, 70.0])
    share, more = 0.8, (4 * 0.8 + 1) / 6
    added = (more * (1 - more) - share * (1 - share)) / 4
    half = scipy.stats.t.ppf(0.975, 3) * math.sqrt(values.var(ddof=1) / 4 + 1e4 * added)
    assert photos.interval(values) == pytest.approx((80, half))
    assert photos.interval(100 * np.ones(90))[1] == pytest.approx(2.2, abs=0.1), "all right"


SCENES = [
    Photographs(2, 1, 10, 1.5),
    Photographs(2, 5, 30, 1.5),
    Photographs(3, 5, 30, 2.0),
    Photographs(5, 5, 20, 2.0),
]


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_coverage_and_level(scene):
    held, rejected = photo_coverage(scene, 400)
    assert 0.93 <= held <= 0.97 and rejected <= 0.065


def test_near_the_ceiling_the_interval_is_wide_rather_than_narrow():
    """Of 20 photographs of which 96 % are right, most draws have none wrong, or one."""
    scene = Photographs(2, 5, 10, 2.0)
    held, rejected = photo_coverage(scene, 200)
    assert scene.truth > 95 and held >= 0.95 and rejected <= 0.05


def test_an_extrapolation_follows_a_power_law():
    shots, at = np.array([1, 2, 3, 5, 8, 12, 20]), np.array([30, 60])
    found = photos.extrapolated(shots, 95 - 30 * shots**-0.7, np.ones(7), at)
    assert found == pytest.approx(95 - 30 * at**-0.7)
    falling = photos.extrapolated(shots, 90 - shots, np.ones(7), at)
    assert len(set(falling)) == 1, "more photographs are never worse"


def test_a_photograph_that_all_tasks_learn_from_has_no_effect():
    answers = every_task(lambda support, query: query % 2 > 0)
    alone = answers[answers[:, 0] == photos.NOT_ASKED]
    values = photos.pseudo_values(alone, CLASSES)
    assert np.isfinite(values).all()
    assert values.mean() == pytest.approx(accuracy(alone))
    assert values[0] == pytest.approx(values.mean())
