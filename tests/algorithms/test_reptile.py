import copy
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Setting, TaskBatch
from algorithms.reptile import Reptile, minibatches
from bench.check.tasks import random_episodes
from tests.algorithms.tasks import PlainConv4
from tests.algorithms.test_maml import Pixel


def test_hand_derived_outer_gradient():
    """Two SGD steps of logistic regression by hand, in two tasks alike.

    Weights 0, one support image +1 of class 0, rate 1. The first step adds (1/2, -1/2) to weights
    and biases alike, so the margin becomes 1/2 - (-1/2) + the same again = 2 and the
    second step adds (p, -p) with p = sigmoid(-2). The outer gradient is minus the whole move, and
    the last mini-batch has the loss log(1 + e^-2).
    """
    learner = Reptile(
        Pixel(), 2, inner_optimizer="sgd", inner_lr=1.0, inner_steps=2, inner_batch=1
    ).double()
    nn.init.zeros_(learner.network.head.weight)
    nn.init.zeros_(learner.network.head.bias)
    support_x = torch.ones(2, 1, 1, 1, 1, 1, dtype=torch.float64)
    empty = torch.empty(2, 0)
    labels = torch.zeros(2, 1, 1, dtype=torch.int64)
    metrics = learner.meta_gradient(TaskBatch(support_x, labels, empty, empty, empty))
    assert metrics["loss"].item() == pytest.approx(math.log1p(math.exp(-2)), rel=1e-12)
    assert metrics["score"] == 100
    move = 0.5 + torch.sigmoid(torch.tensor(-2.0, dtype=torch.float64)).item()
    expected = torch.tensor([-move, move], dtype=torch.float64)
    torch.testing.assert_close(learner.network.head.weight.grad[:, 0], expected)
    torch.testing.assert_close(learner.network.head.bias.grad, expected)


@pytest.mark.parametrize("update", ["all_steps", "last_step"])
@pytest.mark.parametrize("inner_optimizer", ["adam", "sgd"])
def test_outer_gradient_equals_a_loop_over_tasks_with_torch_optimizers(inner_optimizer, update):
    """Three meta-batches, so that the second moments are carried on."""
    torch.manual_seed(0)
    learner = Reptile(
        Conv4((1, 16, 16), downsample="stride", filters=6),
        3,
        inner_optimizer=inner_optimizer,
        inner_lr=0.01,
        inner_steps=4,
        inner_batch=4,
        update=update,
    ).double()
    learner.chunk_size = 2
    plain = PlainConv4(6, 6, 3).double().load_from(learner.network)
    moments = [torch.zeros_like(p) for p in plain.parameters()]
    for number in range(3):
        episodes = random_episodes(tasks=3, ways=3, shots=2, queries=0, seed=number)
        batches = minibatches(6, 4, 4, torch.tensor(1 + number))
        moves, ended = [], []
        for images, labels in zip(episodes.support_x, episodes.support_y, strict=True):
            model = copy.deepcopy(plain)
            if inner_optimizer == "sgd":
                optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            else:
                optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.0, 0.999))
                for parameter, moment in zip(model.parameters(), moments, strict=True):
                    optimizer.state[parameter] = {
                        "step": torch.tensor(4.0 * number),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": moment.clone(),
                    }
            start = plain
            for step, rows in enumerate(batches):
                if update == "last_step" and step == 3:
                    start = copy.deepcopy(model)
                x, y = images.flatten(0, 1)[rows], labels.flatten()[rows]
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
            moves.append(
                [
                    (b - a).detach()
                    for a, b in zip(model.parameters(), start.parameters(), strict=True)
                ]
            )
            if inner_optimizer == "adam":
                ended.append([optimizer.state[p]["exp_avg_sq"] for p in model.parameters()])
        learner.zero_grad()
        learner.meta_gradient(episodes)
        ours = dict(learner.network.named_parameters())
        for index, (name, _) in enumerate(plain.named_parameters()):
            gradient = ours[name if "head" in name else f"backbone.{name}"].grad
            expected = torch.stack([move[index] for move in moves]).mean(0)
            torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)
        if ended:
            moments = [torch.stack(parts).mean(0) for parts in zip(*ended, strict=True)]


def test_a_head_for_two_ways_is_not_trained_on_five():
    possible, reason = Reptile(Pixel(), 2).supports(Setting(5, 1, 0), Setting(2, 1, 1))
    assert not possible and "made for 2 ways" in reason


def test_training_episodes_have_no_queries():
    learner = Reptile(Pixel(), 2)
    assert learner.supports(Setting(2, 1, 0), Setting(2, 1, 1)) == (True, "")
    possible, reason = learner.supports(Setting(2, 1, 3), Setting(2, 1, 1))
    assert not possible and "train.queries must be 0" in reason


def test_it_is_transductive_where_that_is_asked_for_alone():
    asked = ("support", "support_and_query", "query", "all_queries")
    for backbone, expected in ((Conv4((1, 16, 16)), True), (Pixel(), False)):
        learners = [Reptile(backbone, 2, norm_statistics=statistics) for statistics in asked]
        assert [each.transductive for each in learners] == [False, False, False, expected]
    assert Reptile(Pixel(), 2).norm_statistics in Reptile.norm_statistics_choices


def test_minibatches_walk_through_all_images_before_any_comes_again():
    batches = minibatches(6, 4, 6, torch.tensor(3))
    assert batches.shape == (6, 4)
    walked = batches.flatten()
    for start in range(0, 24, 6):
        assert sorted(walked[start : start + 6].tolist()) == list(range(6))
    assert not torch.equal(walked[:6], walked[6:12])
    assert not torch.equal(batches, minibatches(6, 4, 6, torch.tensor(4)))
    assert minibatches(3, 5, 2, torch.tensor(0)).shape == (2, 3)


def test_golden_minibatches():
    """The very mini-batches of this version: should they change, stored results are stale."""
    assert minibatches(5, 3, 3, torch.tensor(7)).tolist() == [[4, 1, 0], [2, 3, 2], [1, 4, 3]]


def test_minibatches_are_shuffled_uniformly():
    """Each of the 24 orders of four images, 4,800 times a new number; chi-square at 0.1 %."""
    numbers = range(4_800)
    orders = Counter(tuple(minibatches(4, 4, 1, torch.tensor(n))[0].tolist()) for n in numbers)
    expected = len(numbers) / 24
    assert sum((seen - expected) ** 2 / expected for seen in orders.values()) < 49.7
    assert len(orders) == 24


def test_official_evaluation_sees_the_support_set_and_one_query():
    torch.manual_seed(1)
    options = {"test_inner_steps": 2, "inner_lr": 0.01}
    learner = Reptile(
        Conv4((1, 16, 16), downsample="stride", filters=6),
        3,
        norm_statistics="support_and_query",
        **options,
    )
    learner = learner.double().eval()
    episodes = random_episodes(tasks=2, ways=3, shots=1, queries=2)
    fast, support_x = learner.adapt(episodes.support_x, episodes.support_y)
    logits = learner.predict((fast, support_x), episodes.query_x)
    for task in range(2):
        plain = PlainConv4(6, 6, 3).double()
        plain.load_from(_Named({name: weight[task] for name, weight in fast.items()}))
        for query in range(6):
            both = torch.cat((support_x[task], episodes.query_x[task, query : query + 1]))
            torch.testing.assert_close(logits[task, query], plain(both)[-1])


class _Named:
    def __init__(self, weights):
        self.named_parameters = weights.items
