"""Learners on tasks without classes: what a plain loop over tasks gives."""

import copy

import pytest
import torch
from torch import Tensor, nn

from algorithms.backbones.mlp import MLP
from algorithms.learner import Learner, TaskBatch
from algorithms.losses import SquaredError
from algorithms.maml import MAML
from algorithms.r2d2 import R2D2
from algorithms.reptile import Reptile, minibatches

TASKS, SHOTS, QUERIES, INPUTS, OUTPUTS = 3, 4, 5, 2, 2


def tasks(count: int = TASKS) -> TaskBatch:
    generator = torch.Generator().manual_seed(0)

    def values(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return TaskBatch(
        values(count, 1, SHOTS, INPUTS),
        values(count, 1, SHOTS, OUTPUTS),
        values(count, QUERIES, INPUTS),
        values(count, QUERIES, OUTPUTS),
        torch.zeros(count, 1, dtype=torch.int64),
    )


def made(method: type[Learner], **options: object) -> Learner:
    torch.manual_seed(0)
    learner = method(MLP((INPUTS,), hidden=6, layers=2), OUTPUTS, **options).double()
    learner.loss = SquaredError()
    return learner


def plain(network: nn.Module) -> nn.Sequential:
    """A network of torch's own layers with the same weights, without a task axis."""
    layers: list[nn.Module] = []
    for layer in (*network.backbone.hidden, network.head):
        weight, bias = layer.weight.detach(), layer.bias.detach()
        linear = nn.Linear(weight.shape[1], weight.shape[0]).double()
        linear.load_state_dict({"weight": weight, "bias": bias})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_mamls_gradient_is_that_of_a_loop_over_tasks(steps, second_order):
    learner = made(MAML, inner_steps=steps, inner_lr=0.0625, second_order=second_order)
    network = plain(learner.network)
    parameters = dict(network.named_parameters())
    batch, total = tasks(), 0.0
    for x, y, query_x, query_y in zip(*batch[:4], strict=True):
        fast = parameters
        for _ in range(steps):
            loss = (torch.func.functional_call(network, fast, x[0]) - y[0]).square().mean()
            gradient = torch.autograd.grad(loss, list(fast.values()), create_graph=second_order)
            fast = {n: w - 0.0625 * g for (n, w), g in zip(fast.items(), gradient, strict=True)}
        answer = torch.func.functional_call(network, fast, query_x)
        total = total + (answer - query_y).square().mean() / TASKS
    expected = torch.autograd.grad(total, list(parameters.values()))
    metrics = learner.meta_gradient(batch)
    torch.testing.assert_close(metrics["loss"], total.detach(), rtol=1e-10, atol=0)
    found = [p.grad for p in learner.network.parameters()]
    order = dict(zip(parameters, expected, strict=True))
    for gradient, wanted in zip(found, order.values(), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)


def test_reptiles_step_is_that_of_a_loop_over_tasks():
    options = {"inner_optimizer": "sgd", "inner_lr": 0.05, "inner_steps": 3, "inner_batch": 2}
    learner = made(Reptile, **options)
    batch = tasks()
    batches = minibatches(SHOTS, 2, 3, torch.tensor(1))
    start = plain(learner.network)
    total = [torch.zeros_like(p) for p in start.parameters()]
    for x, y in zip(batch.support_x, batch.support_y, strict=True):
        network = copy.deepcopy(start)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        for rows in batches:
            optimizer.zero_grad()
            (network(x[0, rows]) - y[0, rows]).square().mean().backward()
            optimizer.step()
        for summed, before, after in zip(
            total, start.parameters(), network.parameters(), strict=True
        ):
            summed += (before - after).detach() / TASKS
    learner.meta_gradient(batch)
    for parameter, wanted in zip(learner.network.parameters(), total, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-10, atol=1e-12)


def test_r2d2_solves_the_ridge_regression_of_the_targets():
    learner = made(R2D2, ridge_lambda=0.3, initial_scale=1.0).eval()
    batch = tasks()
    answers = learner(batch.support_x, batch.support_y, batch.query_x)
    for x, y, query_x, answer in zip(
        batch.support_x, batch.support_y, batch.query_x, answers, strict=True
    ):
        features, queries = (
            torch.nn.functional.pad(learner.backbone(each[None])[0], (0, 1), value=1.0)
            for each in (x[0], query_x)
        )
        root = (0.3 * SHOTS) ** 0.5 * torch.eye(features.shape[1], dtype=torch.float64)
        left = torch.cat((features, root))
        right = torch.cat((y[0], torch.zeros(len(root), OUTPUTS, dtype=torch.float64)))
        weights = torch.linalg.lstsq(left, right).solution
        torch.testing.assert_close(answer, queries @ weights, rtol=1e-8, atol=1e-10)
