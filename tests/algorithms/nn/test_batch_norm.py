"""Batch norm against its definition and against finite differences, to second order."""

import pytest
import torch
from torch import Tensor

from algorithms.nn.batch_norm import batch_norm, batch_norm_each

EPS = 1e-5


def by_definition(x: Tensor, weight: Tensor, bias: Tensor, rows: int | None) -> Tensor:
    seen = x[:rows]
    mean = seen.mean((0, 2, 3), keepdim=True)
    variance = (seen - mean).square().mean((0, 2, 3), keepdim=True)
    normal = (x - mean) / (variance + EPS).sqrt()
    return normal * weight[:, None, None] + bias[:, None, None]


@pytest.fixture(params=[None, 2], ids=["all images", "first two"])
def rows(request: pytest.FixtureRequest) -> int | None:
    return request.param


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def inputs(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(5, 3, 4, 2, dtype=torch.float64, generator=generator)
    weight, bias = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    x = x.contiguous(memory_format=request.param)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


def test_it_is_its_definition(inputs: tuple[Tensor, Tensor, Tensor], rows: int | None) -> None:
    torch.testing.assert_close(batch_norm(*inputs, rows, EPS), by_definition(*inputs, rows))


def test_second_derivatives_are_those_of_the_definition(
    inputs: tuple[Tensor, Tensor, Tensor], rows: int | None
) -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(inputs[0].shape, dtype=torch.float64, generator=generator)

    def second(y: Tensor) -> tuple[Tensor, ...]:
        """The gradient of the squared norm of a gradient, which mixes all second derivatives."""
        first = torch.autograd.grad((y - target).pow(3).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), inputs)

    torch.testing.assert_close(
        second(batch_norm(*inputs, rows, EPS)),
        second(by_definition(*inputs, rows)),
        rtol=1e-10,
        atol=1e-8,
    )


def test_derivatives_are_those_of_finite_differences(
    inputs: tuple[Tensor, Tensor, Tensor], rows: int | None
) -> None:
    def normalise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return batch_norm(x, weight, bias, rows, EPS)

    assert torch.autograd.gradcheck(normalise, inputs)
    assert torch.autograd.gradgradcheck(normalise, inputs)


def test_each_task_is_normalised_as_if_it_were_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(6, 3, 4, 2, dtype=torch.float64, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.randn(2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    y, means, variances = batch_norm_each(x, weight, bias, 3, EPS)
    alone = torch.cat([by_definition(part, weight, bias, None) for part in x.chunk(3)])
    torch.testing.assert_close(y, alone)
    mixed = torch.randn(y.shape, dtype=torch.float64, generator=generator)
    gradients = [torch.autograd.grad((out * mixed).sum(), (x, weight, bias)) for out in (y, alone)]
    torch.testing.assert_close(*gradients)
    tasks = x.detach().unflatten(0, (3, 2))
    torch.testing.assert_close(means, tasks.mean((1, 3, 4)))
    torch.testing.assert_close(variances, tasks.var((1, 3, 4)))


def test_one_channel_and_two_pixels_are_enough(rows: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 1, 1, 1, dtype=torch.float64, generator=generator).requires_grad_()
    weight, bias = torch.tensor([[2.0], [-1.0]], dtype=torch.float64).requires_grad_()
    y, means, variances = batch_norm_each(x, weight, bias, 3, EPS)
    alone = torch.cat([by_definition(part, weight, bias, None) for part in x.chunk(3)])
    torch.testing.assert_close(y, alone)
    torch.testing.assert_close(means, x.detach().view(3, 2).mean(1, keepdim=True))
    torch.testing.assert_close(variances, x.detach().view(3, 2).var(1, keepdim=True))
    results = []
    for out in (batch_norm(x, weight, bias, rows, EPS), by_definition(x, weight, bias, rows)):
        (slope,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
        results.append((out, slope, *torch.autograd.grad(slope.square().sum(), x)))
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-8)
