"""Baseline and Baseline++: fitted heads against torch's optimizer in a loop, and the outer loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from algorithms.backbones.mlp import MLP
from algorithms.baseline import Baseline
from algorithms.baselinepp import BaselinePP
from algorithms.learner import Setting
from algorithms.nn.permutations import permutations
from bench.check.tasks import random_episodes

FEATURES = 6
LEARNERS = [Baseline, BaselinePP]


def make(learner: type[Baseline], classes: int = 4, **options: object) -> Baseline:
    torch.manual_seed(0)
    return learner(MLP((1, 16, 16), hidden=FEATURES), classes, **options).double()


class Cosine(nn.Module):
    """The official code's cosine head: weight norm, times 2, or 10 for more than 200 classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = weight_norm(nn.Linear(FEATURES, classes, bias=False))

    def forward(self, x):
        x = x / x.norm(dim=1, keepdim=True)
        return (2 if self.linear.weight.shape[0] <= 200 else 10) * self.linear(x)


def fresh_head(learner: Baseline, ways: int) -> nn.Module:
    """The head of torch's own layers, where ours starts."""
    head = nn.Linear(FEATURES, ways) if type(learner) is Baseline else Cosine(ways)
    head.double()
    with torch.no_grad():
        if type(learner) is Baseline:
            head.weight.zero_()
            head.bias.zero_()
        else:
            parts = head.linear.parametrizations.weight
            signs = torch.tensor([1.0, -1.0] * (FEATURES // 2), dtype=torch.float64)
            parts.original0.fill_(3**-0.5)
            parts.original1.copy_(signs)  # whose own length matters below
            parts.original1.mul_((3 * FEATURES) ** -0.5)
    return head


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("shots", [1, 3], ids=["batches of 4 and 1", "batches of 4, 4, 4 and 3"])
def test_heads_are_those_of_sgd_task_by_task(learner, shots):
    learner = make(learner, test_epochs=30, head_lr=0.5)
    learner.eval()
    episodes = random_episodes(tasks=2, ways=5, shots=shots, queries=2)
    logits = learner(*episodes[:3])
    orders = permutations(5 * shots, 30, torch.tensor(0))
    for task in range(2):
        with torch.no_grad():
            images = episodes.support_x[task].flatten(0, 1)
            support = learner.backbone(images[None])[0]
            queries = learner.backbone(episodes.query_x[task][None])[0]
        labels = episodes.support_y[task].flatten()
        head = fresh_head(learner, 5)
        optimizer = torch.optim.SGD(
            head.parameters(), lr=0.5, momentum=0.9, dampening=0.9, weight_decay=0.001
        )
        for order in orders:
            for rows in order.split(4):
                optimizer.zero_grad()
                F.cross_entropy(head(support[rows]), labels[rows]).backward()
                optimizer.step()
        torch.testing.assert_close(logits[task], head(queries), rtol=1e-8, atol=1e-10)
        answers = logits[task].argmax(1)
        assert len(answers.unique()) > 1, "it was fitted"


@pytest.mark.parametrize("classes", [4, 200, 201])
def test_training_heads_are_the_official_ones(classes):
    """Weight norm takes lengths and directions apart, and at the start changes nothing."""
    learner = make(BaselinePP, classes)
    x = torch.rand(1, 5, FEATURES, dtype=torch.float64)
    head = Cosine(classes).double()
    parts = head.linear.parametrizations.weight
    with torch.no_grad():
        parts.original0.copy_(learner.head.length[:, None])
        parts.original1.copy_(3 * learner.head.direction)
    torch.testing.assert_close(learner.head(x)[0], head(x[0]))
    lengths = learner.head.direction.norm(dim=1)
    torch.testing.assert_close(learner.head.length, lengths, rtol=1e-6, atol=0)
    assert make(Baseline, classes).head.bias.eq(0).all()
    assert make(Baseline, classes).head.weight.shape == (classes, FEATURES)


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_outer_loss_is_that_of_all_training_classes(learner):
    """The labels of an episode, 0, 1, 2, are classes 6, 0 and 3 of seven."""
    learner = make(learner, classes=7)
    classes = torch.tensor([[6, 0, 3], [1, 2, 6]])
    episodes = random_episodes(tasks=2, ways=3, shots=2, queries=0)._replace(classes=classes)
    metrics = learner.meta_gradient(episodes)
    images = episodes.support_x.flatten(0, 2)
    logits = learner.head(learner.backbone(images[None]))[0]
    labels = torch.tensor([6, 6, 0, 0, 3, 3, 1, 1, 2, 2, 6, 6])
    loss = F.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, list(learner.parameters()))
    assert metrics["loss"].item() == pytest.approx(loss.item())
    right = 100 * (logits.argmax(1) == labels).double().mean().item()
    assert metrics["score"].item() == pytest.approx(right)
    for parameter, gradient in zip(learner.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_training_head_has_no_say_in_a_test_task(learner):
    learner = make(learner).eval()
    episodes = random_episodes(tasks=2, ways=3, shots=2, queries=2)
    before = learner(*episodes[:3])
    for parameter in learner.head.parameters():
        parameter.data.mul_(-3)
    assert torch.equal(learner(*episodes[:3]), before)


@pytest.mark.parametrize("learner", LEARNERS)
def test_training_needs_classes_and_no_queries(learner):
    assert learner.trains_classifier
    assert make(learner).supports(Setting(16, 1, 0), Setting(5, 1, 15)) == (True, "")
    assert not make(learner).supports(Setting(16, 1, 1), Setting(5, 1, 15))[0]


def test_a_fit_records_nothing_and_leaves_features_as_they_are():
    """Its hundreds of steps would take memory otherwise."""
    learner = make(Baseline)
    episodes = random_episodes(tasks=1, ways=3, shots=2, queries=2)
    features = learner.backbone(episodes.support_x.flatten(1, 2))
    copy = features.detach().clone()
    head = learner.fit(features, episodes.support_y)
    assert not any(each.requires_grad for each in head.values())
    assert torch.equal(features, copy)
