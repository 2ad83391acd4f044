import pytest
import torch
import torch.nn.functional as F
from torch import nn

from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.resnet12 import ResNet12
from algorithms.protonet import ProtoNet
from bench.check.tasks import random_episodes


class Pixels(nn.Module):
    """A backbone whose features are the pixels."""

    def forward(self, x, stats_from=None):
        return x.flatten(2)


def test_hand_derived_logits():
    """Prototypes (1, 0) and (0, 3); the query (1, 1) is at squared distances 1 and 5."""
    support = torch.tensor([[[[0.0, 0.0], [2.0, 0.0]], [[0.0, 2.0], [0.0, 4.0]]]])
    support_y = torch.tensor([[[0, 0], [1, 1]]])
    query = torch.tensor([[[1.0, 1.0]]])
    logits = ProtoNet(Pixels(), 2)(
        support[..., None, None, :], support_y, query[..., None, None, :]
    )
    assert logits.tolist() == [[[-1.0, -5.0]]]


def test_logits_equal_learn2learn():
    peer = pytest.importorskip("learn2learn").nn.PrototypicalClassifier
    torch.manual_seed(0)
    learner = ProtoNet(Conv4((1, 16, 16), downsample="stride", filters=8), 4).double()
    episodes = random_episodes(tasks=3, ways=4, shots=3, queries=2)
    learner(*episodes[:3])  # running statistics move away from their start
    learner.eval()
    logits = learner(*episodes[:3])
    for task in range(3):
        support = learner.backbone(episodes.support_x[task].flatten(0, 1)[None])[0]
        queries = learner.backbone(episodes.query_x[task][None])[0]
        classifier = peer(support, episodes.support_y[task].flatten(), distance="euclidean")
        torch.testing.assert_close(logits[task], classifier(queries), rtol=1e-9, atol=1e-9)


def test_trains_on_more_ways_than_it_is_tested_on():
    torch.manual_seed(0)
    learner = ProtoNet(Conv4((1, 16, 16), downsample="stride", filters=8), 3).double()
    learner.meta_gradient(random_episodes(tasks=1, ways=12, shots=2, queries=2))
    assert all(p.grad is not None for p in learner.parameters())
    test = random_episodes(tasks=2, ways=3, shots=1, queries=2)
    assert learner.eval()(*test[:3]).shape == (2, 6, 3)


def test_hand_derived_scaled_logits():
    """As above, but over two features and times a learned 3: -3 * 1 / 2 and -3 * 5 / 2."""
    support = torch.tensor([[[[1.0, 0.0]], [[0.0, 3.0]]]])
    learner = ProtoNet(Pixels(), 2, initial_scale=3.0)
    assert [name for name, _ in learner.named_parameters()] == ["scale"]
    images = torch.tensor([[[1.0, 1.0]]])
    logits = learner(
        support[..., None, None, :], torch.tensor([[[0], [1]]]), images[..., None, None, :]
    )
    assert logits.tolist() == [[[-1.5, -7.5]]]


@pytest.mark.parametrize(("initial_scale", "sane"), [(1.0, True), (None, False)])
def test_thousands_of_features_need_the_mean_over_them(initial_scale, sane):
    """On ResNet-12 a fresh network has the loss of a guess, log 5, and not hundreds."""
    torch.manual_seed(0)
    backbone = ResNet12((3, 32, 32), filters=8, drop_rate=0.0)
    learner = ProtoNet(backbone, 5, initial_scale=initial_scale)
    images = torch.rand(2, 5, 6, 3, 32, 32)
    support_y = torch.arange(5)[:, None].expand(2, 5, 1)
    logits = learner(images[:, :, :1], support_y, images[:, :, 1:].flatten(1, 2))
    labels = torch.arange(5).repeat_interleave(5).repeat(2)
    loss = F.cross_entropy(logits.flatten(0, 1), labels).item()
    spread = logits.std(-1).mean().item()
    assert (1.3 < loss < 1.8 and spread < 1) == sane, (loss, spread)
