"""Speed against learn2learn 0.2.0, in the same run, on the same machine, shapes and weights.

``pytest tests/benchmarks/test_speed.py --benchmark-enable`` ends with the table of ratios; ``-k MAML``
chooses some, ``--device cuda`` takes the GPU. Each test checks first that both sides do the same;
without ``--benchmark-enable`` that is all. What is timed is in `tests.benchmarks.sides`.
"""

import copy

import pytest
import torch

from algorithms.learner import Learner, TaskBatch
from bench.check.tasks import random_episodes
from tests.algorithms.peers import pair
from tests.benchmarks.sides import DRAWING, STEPS, SVM, sides, strided

pytest.importorskip("learn2learn")

CPU = torch.device("cpu")


def in_double(learner: Learner, episodes: TaskBatch) -> list[torch.Tensor]:
    """The loss and the gradients of a copy in float64."""
    learner = copy.deepcopy(learner).double()
    loss = learner.meta_gradient(episodes)["loss"]
    return [loss, *(p.grad for n, p in learner.named_parameters() if n != "inner_lrs")]


@pytest.mark.parametrize("name", STEPS)
def test_outer_gradient(against, name):
    algo, options, own, shape, _, alike = STEPS[name]
    if algo != "metaoptnet":  # that peer wants float64 as default: test_learn2learn.py compares
        ours, theirs = pair(algo, strided, shape.ways, options, own)
        few = random_episodes(alike, *shape, size=28)
        torch.testing.assert_close(
            in_double(ours, few), in_double(theirs, few), rtol=1e-8, atol=1e-8
        )
    against(name)


@pytest.mark.parametrize("name", SVM)
def test_svm_head(against, name):
    both = sides(name, CPU)
    for mine, other in zip(both.ours(), both.peer(), strict=True):  # float32 leaves qpth 3 % off
        torch.testing.assert_close(mine, other, rtol=0.05, atol=0.05 * other.abs().max().item())
    against(name)


@pytest.mark.parametrize("name", DRAWING)
def test_drawing_episodes(against, name):
    shape, both = DRAWING[name], sides(name, CPU)
    assert both.ours().support_x.shape == (32, shape.ways, shape.shots, 1, 28, 28)
    images, labels = both.peer()
    assert len(images) == len(labels) == shape.ways * (shape.shots + shape.queries)
    against(name)
