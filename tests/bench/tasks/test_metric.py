"""Metrics: which of two scores is better, and how they are written and compared."""

import numpy as np
import pytest

from bench.tasks.base import Metric
from bench.tasks.classification.domain import Classification
from bench.tasks.regression.domain import Regression

ACCURACY, MSE = Classification.metric, Regression.metric


def test_the_best_is_the_highest_accuracy_and_the_smallest_error():
    assert ACCURACY.is_better(2.0, 1.0) and not ACCURACY.is_better(1.0, 1.0)
    assert MSE.is_better(1.0, 2.0) and not MSE.is_better(1.0, 1.0)
    assert (ACCURACY.best([1.0, 3.0, 3.0]), MSE.best([2.0, 1.0, 1.0])) == (1, 1)
    assert ACCURACY.worst == 0 and MSE.worst > 1e12


@pytest.mark.parametrize(
    ("metric", "mean", "half", "text"),
    [
        (ACCURACY, 93.14, 0.42, "93.1 ± 0.4 %"),
        (ACCURACY, 93.14, 0.042, "93.14 ± 0.04 %"),
        (ACCURACY, 93.14, None, "93.1 %"),
        (ACCURACY, 100.0, 0.0, "100.0 ± 0.0 %"),
        (MSE, 0.012345, 0.00123, "0.0123 ± 0.0012"),
        (MSE, 2.5e40, 2.4e40, "2.5e+40 ± 2.4e+40"),
    ],
)
def test_scores_are_written_with_their_unit(metric, mean, half, text):
    assert metric.text(mean, half) == text


def test_merits_are_more_for_the_better_and_ratios_for_errors():
    assert ACCURACY.merits(np.array([3.0, 4.0])).tolist() == [3.0, 4.0]
    halved = MSE.merits(np.array([[2.0, 1.0], [0.2, 0.1]]))
    np.testing.assert_allclose(halved[:, 1] - halved[:, 0], np.log(2))
    assert np.isfinite(MSE.merits(np.zeros(2))).all(), "an error of zero is as good as it gets"
    assert (ACCURACY.margin(1.0), MSE.margin(1.0)) == (1.0, pytest.approx(np.log(1.01)))


def test_scores_beyond_the_bounds_are_known():
    assert ACCURACY.contains(100.0) and not ACCURACY.contains(100.1)
    assert MSE.contains(0.0) and not MSE.contains(-0.1) and not MSE.contains(float("nan"))
    assert not Metric(name="a", label="a").contains(float("inf"))


def test_only_cheap_runs_are_probed():
    assert Regression.probes_runs and not Classification.probes_runs


def test_axes_name_the_metric_and_its_unit():
    assert ACCURACY.axis() == "Test accuracy (%)"
    assert MSE.axis("Validation") == "Validation mean squared error"
