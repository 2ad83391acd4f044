import math

import pytest
import torch
import torch.nn.functional as F

from algorithms.backbones import Backbone
from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Setting
from algorithms.nn.norm_statistics import run_queries
from algorithms.protomaml import ProtoMAML
from algorithms.protonet import ProtoNet
from bench.check.tasks import random_episodes
from tests.algorithms.tasks import plain_forward, plain_then_own


class Pixel(Backbone):
    """A backbone whose one feature is the only pixel."""

    num_features = 1

    def forward(self, x, stats_from=None):
        return x.flatten(2)


def test_hand_derived_logits():
    """Two classes, one pixel, one support image each: +1 (class 0) and -1 (class 1).

    The head starts as W = (2, -2), b = (-1, -1): the logits of +1 are (1, -3), those of -1 (-3, 1), so
    that each image gives the other class the probability s = 1 / (1 + e^4). The inner gradient of W_0
    is the mean of -s (+1), which +1 wants of its own class, and of s (-1), which -1 has too much of
    it: -s. That of b_0 is the mean of -s and s: 0. So W' = (2 + rate s, -2 - rate s) and b' = b.
    """
    learner = ProtoMAML(Pixel(), 2, inner_lr=0.5, test_inner_steps=1).double().eval()
    support_x = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1, 1, 1)
    query_x = torch.tensor([3.0], dtype=torch.float64).view(1, 1, 1, 1, 1)
    logits = learner(support_x, torch.tensor([[[0], [1]]]), query_x)
    weight = 2 + 0.5 / (1 + math.exp(4))
    expected = torch.tensor([[[3 * weight - 1, -3 * weight - 1]]], dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)


def plain_meta_gradient(learner, episodes):
    """The outer gradient by a loop over tasks and the definitions of the layers."""
    parameters = dict(learner.network.named_parameters())
    size = learner.network.backbone.num_features
    features_alone = {
        "head.weight": torch.eye(size, dtype=torch.float64),
        "head.bias": torch.zeros(size, dtype=torch.float64),
    }
    outer = 0.0
    for support_x, support_y, query_x, query_y in zip(*episodes[:4], strict=True):
        images, labels = support_x.flatten(0, 1), support_y.flatten()
        features = plain_forward(parameters | features_alone, images)
        centres = [features[labels == way].mean(0) for way in labels.unique()]
        # copies, of which the centres are no function
        weights = {name: p.clone() for name, p in parameters.items()}
        weights["head.weight"] = torch.stack([2 * centre for centre in centres])
        weights["head.bias"] = torch.stack([-(centre @ centre) for centre in centres])
        for _ in range(learner.inner_steps):
            loss = F.cross_entropy(plain_forward(weights, images), labels)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            if not learner.second_order:
                gradients = [gradient.detach() for gradient in gradients]
            weights = {
                name: weight - learner.inner_lr * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
        statistics_of = images if learner.norm_statistics == "support" else None
        outer = outer + F.cross_entropy(plain_forward(weights, query_x, statistics_of), query_y)
    (outer / len(episodes.query_y)).backward()


@pytest.mark.parametrize("statistics", ["all_queries", "support"])
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_meta_gradient_equals_a_loop_over_tasks(statistics, second_order, steps):
    torch.manual_seed(0)
    learner = ProtoMAML(
        Conv4((1, 16, 16), downsample="stride", filters=8),
        3,
        inner_steps=steps,
        inner_lr=0.05,
        second_order=second_order,
        norm_statistics=statistics,
    ).double()
    expected = plain_then_own(learner, plain_meta_gradient)

    assert learner.order == (2 if second_order else 1)
    assert not any(name.startswith("network.head") for name in expected)
    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-9, atol=1e-10)


def test_without_inner_steps_it_is_a_prototypical_network():
    """Its logits are those of ProtoNet plus the squared length of each query's features."""
    torch.manual_seed(1)
    backbone = Conv4((1, 16, 16), filters=8)
    learner = ProtoMAML(backbone, 4, test_inner_steps=0).double().eval()
    protonet = ProtoNet(backbone, 4).double().eval()
    episodes = random_episodes(tasks=3, ways=4, shots=3, queries=2)
    for statistics in learner.norm_statistics_choices:
        learner.norm_statistics = protonet.norm_statistics = statistics
        constant = learner(*episodes[:3]) - protonet(*episodes[:3])
        torch.testing.assert_close(constant, constant[..., :1].expand_as(constant))
        assert constant.min() > 0
        run, images = protonet.backbone.forward_per_task, episodes.support_x.flatten(1, 2)
        features = run_queries(run, images, episodes.query_x, statistics)
        torch.testing.assert_close(constant[..., 0], features.square().sum(-1))


def test_trains_on_more_ways_than_it_is_tested_on():
    torch.manual_seed(0)
    learner = ProtoMAML(Conv4((1, 16, 16), downsample="stride", filters=8), 12).double()
    learner.meta_gradient(random_episodes(tasks=1, ways=12, shots=2, queries=2))
    test = random_episodes(tasks=2, ways=3, shots=1, queries=2)
    assert learner.eval()(*test[:3]).shape == (2, 6, 3)
    assert learner.supports(Setting(12, 2, 2), Setting(3, 1, 2))[0]
