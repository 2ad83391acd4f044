"""Batched ridge regression, in closed form and differentiable.

With features X [S, F] and targets Y [S, N] of one task, the weights that minimise
||X W - Y||^2 + lam ||W||^2 are

    W = (X'X + lam I)^-1 X'Y = X' (XX' + lam I)^-1 Y,

where the matrix of the second form (Woodbury's identity; the dual) has the size of the support set.
The smaller of the two systems is solved, by Cholesky factorisation in float64.
"""

import torch
from torch import Tensor

from algorithms.solvers.svm import linear_kernel


def ridge(features: Tensor, targets: Tensor, lam: float | Tensor) -> Tensor:
    """Return weights W [T, F, N] from features X [T, S, F] and targets Y [T, S, N].

    ``lam`` may be a scalar tensor, to differentiate with respect to it. The result has the
    features' dtype and is once differentiable. Tasks are independent: one with non-finite features
    has a result of NaN, the others are unaffected.

    Raises:
        ValueError: If the shapes do not match, or ``lam`` is a number that is not positive.
    """
    if features.ndim != 3 or targets.ndim != 3 or features.shape[:2] != targets.shape[:2]:
        raise ValueError(
            "Features [T, S, F] and targets [T, S, N] are needed, "
            f"not {list(features.shape)} and {list(targets.shape)}."
        )
    if not isinstance(lam, Tensor) and not lam > 0:
        raise ValueError(f"lam must be positive, not {lam}.")
    targets = targets.double()
    if features.shape[1] <= features.shape[2]:
        dual = solve(linear_kernel(features), targets, lam)
        return features.mT @ dual.to(features.dtype)
    products = features.double().mT @ targets
    return solve(linear_kernel(features.mT), products, lam).to(features.dtype)


def solve(matrix: Tensor, right: Tensor, lam: float | Tensor) -> Tensor:
    """Return (A + lam I)^-1 B for positive semidefinite A [T, D, D] and B [T, D, N]."""
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    # The _ex variant avoids a host sync and does not raise for the whole batch.
    factor, _ = torch.linalg.cholesky_ex(matrix + lam * eye)
    # On CUDA, batched cholesky_solve has a host sync, so it cannot be captured in a graph.
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    result: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return result
