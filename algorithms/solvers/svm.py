"""The head of MetaOptNet: the Crammer-Singer SVM, solved in the dual.

Lee et al. 2019, Meta-Learning with Differentiable Convex Optimization, arXiv 1904.03758. Here T is
the number of tasks, S of support examples, N of ways; K [S, S] is the kernel of one task's support
set and Y [S, N] its one-hot labels. The logits of a query q are sum_s k(q, s) z[s, :].

**The problem.** With Q = K + I, the dual coefficients z [S, N] are

    argmin 1/2 tr z'Qz - <Y, z>   subject to   z <= C Y,   sum_w z[:, w] = 0.

In the slack t = C Y - z, each row of t lies on a simplex, t >= 0 and sum_w t[:, w] = C. With the
multipliers m >= 0 (of t >= 0) and n [S] (of the sum), z is optimal if and only if

    Y - Qz = m + n 1',   t * m = 0,   t >= 0,   m >= 0,   sum_w t = C.

At least one slack in each row is positive, so m and n are unique, and Q >= I makes z unique.

**The Newton step.** Linearised at (t, m), with target p for the products t * m, D = m / t and
c = (p - dt dm) / t, where dt dm is the second-order term that linearisation neglects, the
conditions become, for each class w,

    (Q + diag D_w) dt_w = n + c_w - (Y - Qz)_w,   sum_w dt_w = C - sum_w t_w,
    dm = c - m - D dt.

The classes are coupled only through n. One S x S factorisation per class and one of the S x S Schur
complement, sum_w (Q + diag D_w)^-1, replace that of the (S N) x (S N) system. A step solves twice
with the same factors: first with c = 0 to see how far the step could go (predictor), then with the
p and dt dm derived from that (corrector; Mehrotra's predictor-corrector method). This is fast but
can cycle, for example if C is small and the examples are few: as long as the mean product has not
halved in two steps, a task takes plain steps towards the central path, which are slower but robust.

**The gradient.** Differentiating the conditions at the optimum gives the same matrix: for an outer
gradient G [S, N] and the x with (Q + diag D_w) x_w + n = G_w, sum_w x_w = 0, the gradient with
respect to K is -x z', symmetrised. Where t and m are both zero (a degenerate problem), z has a
kink, and the result is finite: a gradient between those on its two sides.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

SYNC_FREE_DEVICES = ("cpu",)
"""Devices on which checking whether all tasks are solved needs no host sync.

On other devices, all iterations are run.
"""
ITERATIONS = 40
"""Maximum number of Newton steps on devices that can stop early; 5 to 15 are usual."""
ITERATIONS_UNASKED = 20
"""Number of Newton steps on other devices, enough for all but one of a million hard problems."""
GAP = 1e-23
"""A task is solved when all its products t * m are smaller than this times C.

Near a kink of z, the accuracy of the gradient depends on how small the smaller of t and m is: here
1e-12 at worst.
"""
TOLERANCE = 1e-6
"""A result counts as unsolved when its `kkt_residual` exceeds this times C."""


def crammer_singer(
    kernel: Tensor, labels_one_hot: Tensor, C: float = 0.1, *, iterations: int | None = None
) -> Tensor:
    """Return dual coefficients z [T, S, N] of T multi-class SVMs.

    Only the symmetric part of the kernel counts, and K + I must be positive definite. Arithmetic is
    in float64, the result has the kernel's dtype. The result is once differentiable with respect to
    the kernel; a second differentiation raises. Tasks are independent: one whose kernel is not
    finite, or whose K + I is not positive definite, has a result and a gradient of NaN, the others
    are unaffected.

    Args:
        kernel: The kernels [T, S, S].
        labels_one_hot: The labels [T, S, N]; a class may have no example.
        C: The penalty of the SVM.
        iterations: The maximum number of Newton steps, by default `ITERATIONS` or, on devices where
            all of them are run, `ITERATIONS_UNASKED`. `kkt_residual` measures the accuracy.

    Raises:
        ValueError: If the shapes do not match, or a number is not positive.
    """
    _check_shapes(kernel, labels_one_hot)
    if not C > 0:
        raise ValueError(f"C must be positive, not {C}.")
    if iterations is None:
        can_stop = kernel.device.type in SYNC_FREE_DEVICES
        iterations = ITERATIONS if can_stop else ITERATIONS_UNASKED
    if iterations < 1:
        raise ValueError(f"At least one iteration is needed, not {iterations}.")
    z: Tensor = _CrammerSinger.apply(kernel.double(), labels_one_hot.double(), C, iterations)
    return z.to(kernel.dtype)


def linear_kernel(features: Tensor) -> Tensor:
    """Return inner products [T, S, S] of features [T, S, F], in float64; once differentiable.

    Float32 would not do: the entries are large compared with the range that C leaves to z. The
    gradient takes one product, as both factors are the same, where autograd would take two.
    """
    kernel: Tensor = _LinearKernel.apply(features)
    return kernel


def kkt_residual(kernel: Tensor, labels_one_hot: Tensor, z: Tensor, C: float = 0.1) -> Tensor:
    """Return how far z [T, S, N] is from the optimum, per task: float64 [T].

    It is zero only at the optimum, and depends on z alone, whichever solver it comes from. The
    multipliers that fit z best satisfy stationarity exactly: n[s] = min_w (Y - Qz)[s, w] and
    m = Y - Qz - n >= 0. The residual is the largest of min(|t|, m / max(1, |Kz|)), of the row sums
    of z, and of negative slacks.
    """
    _check_shapes(kernel, labels_one_hot)
    kernel, labels, z = kernel.detach().double(), labels_one_hot.double(), z.detach().double()
    kernel = (kernel + kernel.mT) / 2
    scores = kernel @ z
    scale = scores.abs().amax((1, 2), keepdim=True).clamp(min=1)
    residual = labels - z - scores
    multiplier = residual - residual.amin(-1, keepdim=True)
    slack = C * labels - z
    complementarity = torch.minimum(multiplier / scale, slack.abs())
    return torch.maximum(
        torch.maximum(complementarity, -slack).amax((1, 2)), z.sum(-1).abs().amax(-1)
    )


def _check_shapes(kernel: Tensor, labels: Tensor) -> None:
    fits = kernel.ndim == labels.ndim == 3 and labels.shape[:2] == kernel.shape[:2]
    if not fits or kernel.shape[1] != kernel.shape[2] or labels.numel() == 0:
        raise ValueError(
            "A kernel [T, S, S] and labels [T, S, N] are needed, none of T, S, N zero; "
            f"not {list(kernel.shape)} and {list(labels.shape)}."
        )


class _LinearKernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> Tensor:
        wide = features.double()
        ctx.save_for_backward(wide)
        return wide @ wide.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (wide,) = ctx.saved_tensors
        result: Tensor = (grad + grad.mT) @ wide
        return result


class _CrammerSinger(torch.autograd.Function):
    """The function from kernel [T, S, S] and labels [T, S, N] in float64 to z [T, S, N]."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, kernel: Tensor, labels: Tensor, C: float, iterations: int
    ) -> Tensor:
        eye = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
        hessian = (kernel + kernel.mT) / 2 + eye
        z, ratio = _interior_point(hessian, labels.mT.contiguous(), C, iterations)
        ctx.save_for_backward(hessian, z, ratio)
        return z.mT.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hessian, z, ratio = ctx.saved_tensors
        x = _NewtonSystem(hessian, ratio).solve(grad.mT, torch.zeros_like(grad[..., 0]))
        outer = x.mT @ z
        return (outer + outer.mT) / -2, None, None, None


class _NewtonSystem:
    """The equations (Q + diag D_w) x_w = b_w + n for each class w, sum_w x_w = r; n is free.

    Built from Q [T, S, S] and D [T, N, S]. `failed` [T, 1, 1] marks where they are not positive
    definite.
    """

    def __init__(self, hessian: Tensor, ratio: Tensor) -> None:
        matrices = hessian.unsqueeze(1).repeat(1, ratio.shape[1], 1, 1)
        matrices.diagonal(dim1=-2, dim2=-1).add_(ratio)
        # With R_w the inverse of class w's Cholesky factor, its inverse is R_w' R_w, never formed:
        # applying R_w twice has a smaller residual. The Schur complement is sum_w R_w' R_w.
        self.roots, failed = _inverse_root(matrices)  # [T, N, S, S]
        self.failed = failed.any(1).view(-1, 1, 1)
        self.stacked = self.roots.flatten(1, 2)  # [T, N*S, S]
        self.schur_root, _ = _inverse_root(self.stacked.mT @ self.stacked)  # [T, S, S]

    def solve(self, b: Tensor, r: Tensor) -> Tensor:
        """Return x [T, N, S] from b [T, N, S] and r [T, S]."""
        u = self.roots @ b.unsqueeze(-1)
        missing = r.unsqueeze(-1) - self.stacked.mT @ u.flatten(1, 2)
        n = self.schur_root.mT @ (self.schur_root @ missing)
        u = u + (self.stacked @ n).view_as(u)
        return (self.roots.mT @ u).squeeze(-1)


def _inverse_root(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return R with R'R the inverse of positive definite [..., S, S], and failures [...].

    The second value says where the matrices are not positive definite. Both routines are batched on
    every device and report failures without a host sync.
    """
    factor, info = torch.linalg.cholesky_ex(matrices)
    eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    # solve_triangular returns column-major matrices: the transposed system makes R row-major.
    root = torch.linalg.solve_triangular(factor.mT, eye.expand_as(factor), upper=True).mT
    return root, info != 0


def _interior_point(
    hessian: Tensor, labels: Tensor, C: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Return z and D = m / t, both [T, N, S], from Q [T, S, S] and labels [T, N, S]."""
    t, m = _start(hessian, labels, C)
    z = C * labels - t
    smallest: list[Tensor] = []  # smallest gap of each task so far, by step
    for _ in range(iterations):
        products = t * m
        gap = products.mean((1, 2), keepdim=True)
        smallest.append(torch.minimum(gap, smallest[-1]) if smallest else gap)
        # Converged tasks, and those with NaN, take zero-length steps: more would only underflow.
        unsolved = products.amax((1, 2), keepdim=True) > GAP * C
        if z.device.type in SYNC_FREE_DEVICES and not unsolved.any():
            break
        gradient = labels - z @ hessian
        ratio = m / t
        system = _NewtonSystem(hessian, ratio)
        # z is updated beside t: it stays exact where it is tiny relative to C, as t is near zero.
        deficit = z.sum(1)

        dt = system.solve(-gradient, deficit)
        dm = -m - ratio * dt
        length = _step_length(t, dt, m, dm).clamp(max=1)
        foreseen = ((t + length * dt) * (m + length * dm)).mean((1, 2), keepdim=True)

        # If the predictor step is short, its second-order term dt dm is unreliable and is damped:
        # undamped, some nearly singular problems of large scale cycle.
        neglected = (3 * length).clamp(max=1) * dt * dm
        target = foreseen * (foreseen / gap) ** 2
        if len(smallest) > 2:
            stalled = 2 * gap > smallest[-3]
            neglected = neglected.masked_fill(stalled, 0)
            target = torch.where(stalled, torch.maximum(target, gap / 2), target)
        correction = (target - neglected) / t
        dt = system.solve(correction - gradient, deficit)
        dm = correction - m - ratio * dt
        # Close to the optimum full steps converge quadratically; t and m must not reach zero.
        length = _step_length(t, dt, m, dm) * (1 - gap / C).clamp(0.98, 1 - 1e-8)
        length = torch.where(unsolved, length.clamp(max=1), 0.0)
        length = length.masked_fill(system.failed, torch.nan)
        t, m, z = t + length * dt, m + length * dm, z - length * dt
    return z, m / t


def _start(hessian: Tensor, labels: Tensor, C: float) -> tuple[Tensor, Tensor]:
    """Return initial t and m, both [T, N, S], strictly feasible and without residuals.

    t is that of the optimum without inequalities, moved inside; m are the multipliers that satisfy
    all conditions except t * m = 0, shifted away from zero. The constants 0.3 are empirical, not
    critical.
    """
    ways = labels.shape[1]
    root, _ = _inverse_root(hessian)
    z = (labels - 1 / ways) @ root.mT @ root
    margin = (0.3 * z.abs().mean((1, 2), keepdim=True)).clamp(max=C / ways)
    t = (C * labels - z).clamp(min=0) + margin
    t = t * (C / t.sum(1, keepdim=True))
    gradient = labels - (C * labels - t) @ hessian
    m = gradient - gradient.amin(1, keepdim=True)
    return t, m + 0.3 * m.mean((1, 2), keepdim=True)


def _step_length(t: Tensor, dt: Tensor, m: Tensor, dm: Tensor) -> Tensor:
    """Return the longest step [T, 1, 1] that keeps t and m (all [T, N, S]) non-negative."""
    tightest = torch.maximum(-dt / t, -dm / m).amax((1, 2), keepdim=True)
    return tightest.clamp(min=1e-30).reciprocal()
