"""Ridge regression in both of its forms: by hand, against least squares, and its gradient."""

import pytest
import torch
from torch import Tensor

from algorithms.solvers.ridge import ridge

TALL, WIDE = (7, 3), (3, 7)


def problem(rows: int, columns: int, tasks: int = 2) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(tasks, rows, columns, generator=draw, dtype=torch.float64)
    return features, torch.randn(tasks, rows, 2, generator=draw, dtype=torch.float64)


def test_by_hand() -> None:
    """One feature, of 1 and 2, with targets 3 and 4: w = (1*3 + 2*4) / (1 + 4 + 6) = 1. The same as two
    features of one image: (1, 2) and target 5.5 give (1, 2) * 5.5 / (5 + 6)."""
    one = ridge(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [4.0]]]), 6.0)
    torch.testing.assert_close(one, torch.tensor([[[1.0]]]))
    two = ridge(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[5.5]]]), 6.0)
    torch.testing.assert_close(two, torch.tensor([[[0.5], [1.0]]]))


@pytest.mark.parametrize("shape", [TALL, WIDE, (4, 4)])
def test_weights_are_least_squares_with_a_row_for_each_weight(shape) -> None:
    """lam ||W||^2 is the error of rows sqrt(lam) I with targets 0."""
    features, targets = problem(*shape)
    found = ridge(features, targets, 0.7)
    for task in range(2):
        rows = torch.cat((features[task], 0.7**0.5 * torch.eye(shape[1], dtype=torch.float64)))
        wanted = torch.cat((targets[task], torch.zeros(shape[1], 2, dtype=torch.float64)))
        torch.testing.assert_close(found[task], torch.linalg.lstsq(rows, wanted).solution)


@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_the_gradient_is_that_of_finite_differences(shape) -> None:
    features, targets = problem(*shape, tasks=1)
    lam = torch.tensor(0.5, dtype=torch.float64)
    inputs = [each.requires_grad_() for each in (features, targets, lam)]
    assert torch.autograd.gradcheck(ridge, inputs)


def test_the_smaller_system_is_solved(monkeypatch) -> None:
    sizes = []
    factorise = torch.linalg.cholesky_ex

    def noted(matrix: Tensor) -> object:
        sizes.append(matrix.shape[-1])
        return factorise(matrix)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", noted)
    for shape in (TALL, WIDE, (4, 4)):
        ridge(*problem(*shape), 1.0)
    assert sizes == [3, 3, 4]


def test_float32_keeps_its_dtype_and_is_as_exact_as_that() -> None:
    """Features of 100: the kernel has entries of 1e4 beside lam."""
    features, targets = problem(5, 30)
    exact = ridge(100 * features, targets, 1.0)
    found = ridge(100 * features.float(), targets.float(), 1.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_a_task_that_is_not_finite_leaves_the_others_alone(shape) -> None:
    features, targets = problem(*shape)
    broken = features.clone()
    broken[0, 0, 0] = torch.nan
    found = ridge(broken, targets, 1.0)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1], ridge(features, targets, 1.0)[1], rtol=0, atol=0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="needed"):
        ridge(torch.zeros(1, 2, 3), torch.zeros(1, 3, 2), 1.0)
    with pytest.raises(ValueError, match="needed"):
        ridge(torch.zeros(2, 3), torch.zeros(2, 3, 2), 1.0)
    with pytest.raises(ValueError, match="positive"):
        ridge(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), 0.0)
