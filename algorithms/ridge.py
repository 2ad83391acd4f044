"""Ridge regression of many tasks at once, in closed form and differentiable.

With features X [S, F] and targets Y [S, N] of one task, the weights that minimise
||X W - Y||^2 + lam ||W||^2 are

    W = (X'X + lam I)^-1 X'Y = X' (XX' + lam I)^-1 Y,

where the second form (Woodbury's identity; the dual) has a matrix of the size of the support set.
The smaller matrix is the one that is solved, by Cholesky's factorisation, in float64.
"""

import torch
from torch import Tensor

from algorithms.svm import linear_kernel


def ridge(features: Tensor, targets: Tensor, lam: float | Tensor) -> Tensor:
    """Weights W [T, F, N] from features X [T, S, F] and targets Y [T, S, N].

    ``lam`` may be a scalar tensor to differentiate by. The result has the features' dtype; the
    gradient is once differentiable. Tasks do not touch each other: one whose features are not finite
    has a result of NaN, the others theirs. Raises ValueError on shapes that do not fit and on a
    number ``lam`` that is not positive.
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
    """(A + lam I)^-1 B from positive semidefinite A [T, D, D] and B [T, D, N]."""
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    # The _ex variant neither waits for a GPU nor lets one bad task stop the others.
    factor, _ = torch.linalg.cholesky_ex(matrix + lam * eye)
    # On CUDA, cholesky_solve of several matrices waits, so that a graph cannot record it.
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)
