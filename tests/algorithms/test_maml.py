import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from algorithms.backbones import Backbone
from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Setting, TaskBatch
from algorithms.maml import MAML
from bench.check.tasks import random_episodes
from tests.algorithms.tasks import PlainConv4, plain_forward, plain_then_own


class Pixel(Backbone):
    """A backbone whose one feature is the only pixel."""

    num_features = 1

    def forward(self, x, stats_from=None):
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
    learner = MAML(Pixel(), 2, inner_lr=rate, second_order=second_order).double()
    nn.init.zeros_(learner.network.head.weight)
    nn.init.zeros_(learner.network.head.bias)
    support_x = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1, 1, 1)
    support_y = torch.tensor([[[0], [1]]])
    query_x = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    episodes = TaskBatch(support_x, support_y, query_x, torch.tensor([[0]]), torch.tensor([[0, 1]]))

    metrics = learner.meta_gradient(episodes)

    slope = -1 / (1 + math.exp(rate)) * (1 - rate / 2 if second_order else 1)
    expected = torch.tensor([slope, -slope], dtype=torch.float64)
    assert metrics["loss"].item() == pytest.approx(math.log1p(math.exp(-rate)), rel=1e-12)
    torch.testing.assert_close(learner.network.head.weight.grad[:, 0], expected)
    torch.testing.assert_close(learner.network.head.bias.grad, expected)


HEAD = ("head.weight", "head.bias")


def plain_meta_gradient(learner, episodes):
    """The outer gradient by a loop over tasks and the definitions of the layers."""
    parameters = dict(learner.network.named_parameters())
    adapted = [name for name in parameters if learner.adapts == "all" or name in HEAD]
    outer = 0.0
    for support_x, support_y, query_x, query_y in zip(*episodes[:4], strict=True):
        support_x, support_y = support_x.flatten(0, 1), support_y.flatten()
        weights = dict(parameters)
        for _ in range(learner.inner_steps):
            loss = F.cross_entropy(plain_forward(weights, support_x), support_y)
            now = [weights[name] for name in adapted]
            gradients = torch.autograd.grad(loss, now, create_graph=True)
            if not learner.second_order:
                gradients = [gradient.detach() for gradient in gradients]
            for name, rate, gradient in zip(adapted, learner.inner_lrs, gradients, strict=True):
                weights[name] = weights[name] - rate * gradient
        statistics_of = support_x if learner.norm_statistics == "support" else None
        outer = outer + F.cross_entropy(plain_forward(weights, query_x, statistics_of), query_y)
    (outer / len(episodes.query_y)).backward()


# maml, metasgd and anil, with as many learned rates
RULES = [
    ("all", True, 1),
    ("all", True, 3),
    ("all", "per_weight", 2),
    ("head", "per_weight", 1),
    ("head", True, 3),
]


@pytest.mark.parametrize("statistics", ["all_queries", "support"])
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize(("adapts", "learned", "steps"), RULES)
def test_meta_gradient_equals_a_loop_over_tasks(statistics, second_order, adapts, learned, steps):
    torch.manual_seed(0)
    learner = MAML(
        Conv4((1, 16, 16), downsample="stride", filters=8),
        3,
        adapts=adapts,
        inner_steps=steps,
        inner_lr=0.5,
        learn_inner_lr=learned,
        second_order=second_order,
        norm_statistics=statistics,
    ).double()
    for rates in learner.inner_lrs.parameters() if learned == "per_weight" else ():
        assert rates.shape != () and rates.unique() == 0.5
        nn.init.uniform_(rates, -0.2, 0.8)
    expected = plain_then_own(learner, plain_meta_gradient)

    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-10)
    of_rates = [p.grad for n, p in learner.named_parameters() if n.startswith("inner_lrs")]
    for grad in of_rates if learned == "per_weight" else of_rates[0]:
        assert grad.abs().max() > 1e-6


@pytest.mark.parametrize("second_order", [True, False])
def test_anil_is_maml_that_adapts_the_backbone_at_a_rate_of_zero(second_order):
    torch.manual_seed(4)
    options = {"inner_steps": 2, "inner_lr": 0.5, "second_order": second_order}
    anil, maml = (
        MAML(Conv4((1, 16, 16), filters=8), 3, adapts=adapts, learn_inner_lr=True, **options)
        for adapts in ("head", "all")
    )
    anil, maml = anil.double(), maml.double()
    maml.network.load_state_dict(anil.network.state_dict())
    names = [name for name, _ in maml.network.named_parameters()]
    with torch.no_grad():
        maml.inner_lrs.copy_(torch.tensor([0.5 if name in HEAD else 0.0 for name in names]))
    episodes = random_episodes(tasks=3, ways=3, shots=2, queries=2)
    for statistics in anil.norm_statistics_choices:
        anil.norm_statistics = maml.norm_statistics = statistics
        anil.zero_grad()
        maml.zero_grad()
        metrics = [learner.train().meta_gradient(episodes) for learner in (anil, maml)]
        torch.testing.assert_close(*metrics, rtol=1e-10, atol=1e-10)
        for name in names:
            one, other = (x.network.get_parameter(name).grad for x in (anil, maml))
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
        of_head = maml.inner_lrs.grad[[name in HEAD for name in names]]
        torch.testing.assert_close(anil.inner_lrs.grad, of_head, rtol=1e-9, atol=1e-10)
        logits = [learner.eval()(*episodes[:3]) for learner in (anil, maml)]
        torch.testing.assert_close(*logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("statistics", "passes"), [("support", 1), ("all_queries", 2)])
def test_images_pass_the_backbone_of_anil_once(statistics, passes):
    seen = []

    class Counting(Pixel):
        def forward(self, x, stats_from=None):
            seen.append(x.shape[1])
            return super().forward(x)

    learner = MAML(Counting(), 3, adapts="head", inner_steps=4, norm_statistics=statistics).double()
    learner.meta_gradient(random_episodes(tasks=2, ways=3, shots=1, queries=2, size=1))
    assert len(seen) == passes and sum(seen) == 3 + 6


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("rule", ["MAML", "MetaSGD"])
def test_meta_gradient_equals_learn2learn(rule, first_order):
    algorithms = pytest.importorskip("learn2learn").algorithms
    torch.manual_seed(1)
    learner = MAML(
        Conv4((1, 16, 16), downsample="stride", filters=8),
        4,
        inner_steps=2,
        inner_lr=0.75,
        learn_inner_lr="per_weight" if rule == "MetaSGD" else False,
        second_order=not first_order,
        norm_statistics="all_queries",
    ).double()
    episodes = random_episodes(tasks=3, ways=4, shots=1, queries=2)
    plain = PlainConv4(8, 8, 4).double().load_from(learner.network)
    peer = getattr(algorithms, rule)(plain, lr=0.75, first_order=first_order)
    outer = 0.0
    for support_x, support_y, query_x, query_y in zip(*episodes[:4], strict=True):
        clone = peer.clone()
        for _ in range(2):
            clone.adapt(F.cross_entropy(clone(support_x.flatten(0, 1)), support_y.flatten()))
        outer = outer + F.cross_entropy(clone(query_x), query_y)
    (outer / 3).backward()

    metrics = learner.meta_gradient(episodes)

    assert metrics["loss"].item() == pytest.approx(outer.item() / 3, rel=1e-10)
    theirs = {name: p.grad for name, p in plain.named_parameters()}
    ours = {name.removeprefix("backbone."): p for name, p in learner.network.named_parameters()}
    if rule == "MetaSGD":
        theirs |= {f"rate of {n}": r.grad for n, r in zip(theirs, peer.lrs, strict=True)}
        ours |= {f"rate of {n}": r for n, r in zip(ours, learner.inner_lrs, strict=True)}
    assert theirs.keys() == ours.keys()
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter.grad, theirs[name], rtol=1e-10, atol=1e-10)


def test_meta_gradient_equals_finite_differences():
    torch.manual_seed(2)
    learner = MAML(
        Conv4((1, 16, 16), downsample="stride", filters=4), 3, inner_steps=2, inner_lr=0.25
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
    possible, reason = MAML(Pixel(), 2).supports(Setting(5, 1, 1), Setting(2, 1, 1))
    assert not possible and "made for 2 ways" in reason


def test_weights_of_each_task_have_no_running_statistics_to_store():
    learner = MAML(Conv4((1, 16, 16), filters=4), 3)
    stored = {name.split(".")[-1] for name in learner.state_dict()}
    assert stored == {"weight", "bias", "inner_lrs"}


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
