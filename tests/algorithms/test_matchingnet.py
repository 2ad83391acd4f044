import math

import pytest
import torch
from torch import nn

from algorithms.backbones.mlp import MLP
from algorithms.matchingnet import MatchingNet
from bench.check.tasks import random_episodes


class Pixels(nn.Module):
    """A backbone whose features are the pixels."""

    def forward(self, x, stats_from=None):
        return x.flatten(2)


def answers(support: list, query: list, scale: float) -> torch.Tensor:
    """Logits of one query for classes of two-pixel images."""
    images = torch.tensor(support, dtype=torch.float64)[None, ..., None, None, :]
    labels = torch.arange(len(support))[:, None].expand(-1, len(support[0]))[None]
    one = torch.tensor(query, dtype=torch.float64)[None, None, None, None, :]
    return MatchingNet(Pixels(), len(support), scale=scale)(images, labels, one)[0, 0]


def test_hand_derived_logits():
    """The query (1, 0) has cosines 1, 0 with the first class and -1, 0.6 with the second, whatever the
    images' lengths: of e + 1 + 1/e + e^0.6, the classes have e + 1 and 1/e + e^0.6."""
    found = answers([[[2.0, 0.0], [0.0, 3.0]], [[-0.5, 0.0], [3.0, 4.0]]], [1.0, 0.0], 1.0)
    one, other = math.e + 1, 1 / math.e + math.exp(0.6)
    expected = [math.log(one / (one + other)), math.log(other / (one + other))]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_no_share_is_too_small():
    """Cosines 1 and -1 at a scale of 1,000: the share is e^-2000, which no float holds."""
    found = answers([[[2.0, 0.0]], [[-1.0, 0.0]]], [1.0, 0.0], 1000.0)
    assert found.tolist() == pytest.approx([0.0, -2000.0], abs=1e-9)


def test_an_image_without_features_has_cosine_zero():
    found = answers([[[0.0, 0.0]], [[1.0, 0.0]]], [1.0, 0.0], 1.0)
    assert found.exp().tolist() == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e)])


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_probabilities_are_those_of_plain_loops(scale):
    torch.manual_seed(0)
    learner = MatchingNet(MLP((1, 16, 16), hidden=9), 3, scale=scale).double()
    episodes = random_episodes(tasks=2, ways=3, shots=2, queries=2)
    found = learner(*episodes[:3]).softmax(-1)
    for task in range(2):
        for query in range(6):
            x = learner.backbone(episodes.query_x[task : task + 1, query : query + 1])[0, 0]
            shares = []
            for images in episodes.support_x[task]:
                features = learner.backbone(images[None])[0]
                cosines = [x.dot(s) / (x.dot(x) * s.dot(s)).sqrt() for s in features]
                shares.append(sum(math.exp(scale * cosine) for cosine in cosines))
            expected = torch.tensor(shares, dtype=torch.float64) / sum(shares)
            torch.testing.assert_close(found[task, query], expected)


def test_trains_on_more_ways_than_it_is_tested_on():
    torch.manual_seed(0)
    learner = MatchingNet(MLP((1, 16, 16), hidden=9), 3).double()
    learner.meta_gradient(random_episodes(tasks=1, ways=12, shots=2, queries=2))
    assert all(p.grad is not None for p in learner.parameters())
    test = random_episodes(tasks=2, ways=3, shots=1, queries=2)
    assert learner.eval()(*test[:3]).shape == (2, 6, 3)
