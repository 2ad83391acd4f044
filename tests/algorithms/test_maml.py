import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Episodes, Shape
from algorithms.maml import MAML
from tests.algorithms.tasks import PlainConv4, plain_forward, random_episodes


class Pixel(nn.Module):
    """A backbone whose one feature is the only pixel."""

    features = 1

    def forward(self, x, rows=None):
        return x.flatten(2)


@pytest.mark.parametrize("rate", [0.5, 3.0])
@pytest.mark.parametrize("second_order", [True, False])
def test_hand_derived_meta_gradient(rate, second_order):
    """Logistic regression by hand.

    Two classes, one pixel, all weights 0. With u = w0 - w1 and c = b0 - b1 the inner loss on the
    support images +1 (class 0) and -1 (class 1) is (s(-u-c) + s(-u+c)) / 2, s being softplus. At 0
    its gradient is (-1/2, 0) and its Hessian diag(1/4, 1/4) in (u, c). Both weights move, so
    u' = u + 2 rate / 2 = rate and du'/du = dc'/dc = 1 - rate / 2. The query +1 of class 0
    has the loss s(-u'-c'), whose slope in u' and in c' is -sigmoid(-rate).
    """
    learner = MAML(Pixel(), 2, inner_rate=rate, second_order=second_order).double()
    nn.init.zeros_(learner.network.head.weight)
    nn.init.zeros_(learner.network.head.bias)
    support_x = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1, 1, 1)
    support_y = torch.tensor([[[0], [1]]])
    query_x = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    episodes = Episodes(support_x, support_y, query_x, torch.tensor([[0]]))

    metrics = learner.meta_gradient(episodes)

    slope = -1 / (1 + math.exp(rate)) * (1 - rate / 2 if second_order else 1)
    expected = torch.tensor([slope, -slope], dtype=torch.float64)
    assert metrics["loss"].item() == pytest.approx(math.log1p(math.exp(-rate)), rel=1e-12)
    torch.testing.assert_close(learner.network.head.weight.grad[:, 0], expected)
    torch.testing.assert_close(learner.network.head.bias.grad, expected)


def plain_meta_gradient(learner, episodes):
    """The outer gradient by a loop over tasks and the definitions of the layers."""
    parameters = dict(learner.network.named_parameters())
    outer = 0.0
    for support_x, support_y, query_x, query_y in zip(*episodes, strict=True):
        support_x, support_y = support_x.flatten(0, 1), support_y.flatten()
        weights = dict(parameters)
        for _ in range(learner.inner_steps):
            loss = F.cross_entropy(plain_forward(weights, support_x), support_y)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            if not learner.second_order:
                gradients = [gradient.detach() for gradient in gradients]
            weights = {
                name: weight - rate * gradient
                for (name, weight), rate, gradient in zip(
                    weights.items(), learner.inner_rates, gradients, strict=True
                )
            }
        statistics_of = support_x if learner.statistics == "support" else None
        outer = outer + F.cross_entropy(plain_forward(weights, query_x, statistics_of), query_y)
    (outer / len(episodes.query_y)).backward()


@pytest.mark.parametrize("statistics", ["queries", "support"])
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_meta_gradient_equals_a_loop_over_tasks(statistics, second_order, steps):
    torch.manual_seed(0)
    learner = MAML(
        Conv4((1, 16, 16), downsample="stride", filters=8),
        3,
        inner_steps=steps,
        inner_rate=0.5,
        learn_inner_rate=True,
        second_order=second_order,
        statistics=statistics,
    ).double()
    episodes = random_episodes(tasks=5, ways=3, shots=2, queries=3)
    plain_meta_gradient(learner, episodes)
    expected = {name: p.grad.clone() for name, p in learner.named_parameters()}

    learner.zero_grad()
    learner.tasks_at_once = 2
    learner.meta_gradient(episodes)

    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-10)
    assert expected["inner_rates"].abs().min() > 1e-6


@pytest.mark.parametrize("first_order", [True, False])
def test_meta_gradient_equals_learn2learn(first_order):
    algorithms = pytest.importorskip("learn2learn").algorithms
    torch.manual_seed(1)
    learner = MAML(
        Conv4((1, 16, 16), downsample="stride", filters=8),
        4,
        inner_steps=2,
        inner_rate=0.75,
        second_order=not first_order,
        statistics="queries",
    ).double()
    episodes = random_episodes(tasks=3, ways=4, shots=1, queries=2)
    plain = PlainConv4(8, 8, 4).double().load_from(learner.network)
    peer = algorithms.MAML(plain, lr=0.75, first_order=first_order)
    outer = 0.0
    for support_x, support_y, query_x, query_y in zip(*episodes, strict=True):
        clone = peer.clone()
        for _ in range(2):
            clone.adapt(F.cross_entropy(clone(support_x.flatten(0, 1)), support_y.flatten()))
        outer = outer + F.cross_entropy(clone(query_x), query_y)
    (outer / 3).backward()

    metrics = learner.meta_gradient(episodes)

    assert metrics["loss"].item() == pytest.approx(outer.item() / 3, rel=1e-10)
    theirs = {name: p.grad for name, p in plain.named_parameters()}
    for name, parameter in learner.network.named_parameters():
        torch.testing.assert_close(
            parameter.grad, theirs[name.removeprefix("backbone.")], rtol=1e-10, atol=1e-10
        )


def test_meta_gradient_equals_finite_differences():
    torch.manual_seed(2)
    learner = MAML(
        Conv4((1, 16, 16), downsample="stride", filters=4), 3, inner_steps=2, inner_rate=0.25
    ).double()
    episodes = random_episodes(tasks=2, ways=3, shots=1, queries=2, seed=3)
    learner.meta_gradient(episodes)
    gradients = [p.grad.clone() for p in learner.network.parameters()]
    for parameter, gradient in zip(learner.network.parameters(), gradients, strict=True):
        entry = torch.unravel_index(gradient.abs().argmax(), gradient.shape)
        losses = []
        for step in (1e-5, -2e-5):
            parameter.data[entry] += step
            losses.append(learner.meta_gradient(episodes)["loss"].item())
        parameter.data[entry] += 1e-5
        slope = (losses[0] - losses[1]) / 2e-5
        assert gradient[entry].item() == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_a_head_for_two_ways_is_not_trained_on_five():
    possible, reason = MAML(Pixel(), 2).supports(Shape(5, 1, 1), Shape(2, 1, 1))
    assert not possible and "made for 2 ways" in reason


def test_weights_of_each_task_have_no_running_statistics_to_store():
    learner = MAML(Conv4((1, 16, 16), filters=4), 3)
    stored = {name.split(".")[-1] for name in learner.state_dict()}
    assert stored == {"weight", "bias", "inner_rates"}


def test_test_inner_steps_count_in_evaluation_only():
    torch.manual_seed(3)
    learner = MAML(
        Conv4((1, 16, 16), downsample="stride", filters=4), 3, inner_steps=1, test_inner_steps=4
    ).double()
    longer = MAML(
        Conv4((1, 16, 16), downsample="stride", filters=4), 3, inner_steps=4, test_inner_steps=1
    ).double()
    longer.load_state_dict(learner.state_dict())
    episodes = random_episodes(tasks=2, ways=3, shots=1, queries=2)
    images = episodes.support_x, episodes.support_y, episodes.query_x
    torch.testing.assert_close(learner.eval()(*images), longer.train()(*images))
    assert not torch.allclose(learner.train()(*images), longer(*images))
