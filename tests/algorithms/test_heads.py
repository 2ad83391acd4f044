"""The nearest centroid against a loop written out, and what it owes without parameters."""

import pytest
import torch

from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.pixels import Pixels
from algorithms.centroid import NearestCentroid
from algorithms.learner import Setting
from bench.check import laws
from bench.check.tasks import random_episodes

SILENT = [laws.overfits_one_episode, laws.rejects_unsupported_settings]  # there is no training
SILENT += [laws.a_lone_query_is_all_queries, laws.a_query_joins_the_support_set]
if not torch.cuda.is_available():
    SILENT += [laws.keeps_cuda, laws.a_step_can_be_recorded]


def learner() -> NearestCentroid:
    return NearestCentroid(Pixels(laws.IMAGE), laws.WAYS)


def test_a_query_has_the_class_of_the_nearest_mean_of_pixels():
    episodes = random_episodes(2, 4, shots=3, queries=2)
    logits = learner()(episodes.support_x, episodes.support_y, episodes.query_x)
    for task in range(2):
        means = [images.mean(0) for images in episodes.support_x[task]]
        for query, answer in zip(episodes.query_x[task], logits[task], strict=True):
            distances = torch.stack([-(query - mean).square().sum() for mean in means])
            torch.testing.assert_close(answer, distances)


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_on_pixels_it_obeys_the_laws(law):
    with laws.default_dtype(torch.float64):
        if law in SILENT:
            with pytest.raises(laws.NotApplicableError):
                law(learner())
        else:
            law(learner())


def test_nothing_of_it_is_trained_on_any_backbone():
    on_conv4 = NearestCentroid(Conv4(laws.IMAGE, filters=4), laws.WAYS).double()
    assert not learner().trainable and not on_conv4.trainable
    assert on_conv4.supports(Setting(3, 1, 0), Setting(5, 1, 5)) == (True, "")
    metrics = on_conv4.meta_gradient(random_episodes(2, 3, shots=1, queries=2))
    assert metrics["loss"] > 0
    assert all(parameter.grad is None for parameter in on_conv4.parameters())
