"""Batch norm with an efficient second derivative: a few passes over the images.

Torch's native batch norm is fast for first derivatives, but composes its second derivative from
some thirty elementwise operators, and it passes no gradient through the statistics of a part of the
images. With

    xhat = (x - mean) rstd,     y = weight xhat + bias,     rstd = (variance + eps)^(-1/2),

where mean and variance are over the n pixels of the first ``stats_from`` images, and g the gradient of y,

    dx = weight rstd (g - [row < stats_from] (sum g + xhat sum g xhat) / n),

every derivative, including the second, is per channel a linear combination of x, g and (for the
second) the gradient of dx. All sums come from the fused reductions of torch's native backward.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, stats_from: int | None, eps: float
) -> Tensor:
    """Normalise images [B, C, H, W] by the statistics of the first ``stats_from`` of them, or of all.

    ``weight`` and ``bias`` are [C]. Twice differentiable; fastest in channels_last.
    """
    result: Tensor = _BatchNorm.apply(x, weight, bias, stats_from, eps)
    return result


def batch_norm_each(
    x: Tensor, weight: Tensor, bias: Tensor, tasks: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise images [T*B, C, H, W] of T ``tasks``, each by its own statistics.

    Torch has no such operator; calling its own once per task is faster than converting tasks to
    channels and back.

    Args:
        x: The images, one task after the other.
        weight: The scale [C].
        bias: The offset [C].
        tasks: The number of tasks T.
        eps: Added to the variances.

    Returns:
        The normalised images, the means and the unbiased variances, both [T, C]. Only the images
        are differentiable, and only once.
    """
    y, means, rstds = _EachTask.apply(x, weight, bias, tasks, eps)
    n = x[:, 0].numel() // tasks
    return y, means, (rstds.pow(-2) - eps) * (n / max(1, n - 1))


class _EachTask(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, tasks: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.empty_like(x)
        means, rstds = torch.empty(2, tasks, len(weight), dtype=weight.dtype, device=x.device)
        for part, *out in zip(x.chunk(tasks), y.chunk(tasks), means, rstds, strict=True):
            torch.native_batch_norm(part, weight, bias, None, None, True, 0.0, eps, out=out)
        ctx.save_for_backward(x, weight, means, rstds)
        ctx.mark_non_differentiable(means, rstds)
        return y, means, rstds

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, means, rstds = ctx.saved_tensors
        parts = [part.chunk(len(means)) for part in (g, x)]
        each = [
            torch.ops.aten.native_batch_norm_backward(
                part_g, part_x, weight, None, None, mean, rstd, True, 0.0, [True, True, True]
            )
            for part_g, part_x, mean, rstd in zip(*parts, means, rstds, strict=True)
        ]
        dx, dweight, dbias = zip(*each, strict=True)
        return torch.cat(dx), sum(dweight), sum(dbias), None, None


class _BatchNorm(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stats_from: int | None, eps: float
    ) -> Tensor:
        y, mean, rstd = torch.native_batch_norm(
            x[:stats_from], weight, bias, None, None, True, 0.0, eps
        )
        if stats_from is not None:
            scale = weight * rstd
            y = _combine(bias - mean * scale, (x, scale)).to(x.dtype)  # images may be bfloat16
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.stats_from = stats_from
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        if ctx.stats_from is None and not torch.is_grad_enabled():  # never differentiated again
            gradients = torch.ops.aten.native_batch_norm_backward(
                g, x, weight, None, None, mean, rstd, True, 0.0, [True, True, True]
            )
        else:
            gradients = _Backward.apply(g, x, weight, mean, rstd, ctx.stats_from)
        return *gradients, None, None


class _Backward(Function):
    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        x: Tensor,
        weight: Tensor,
        mean: Tensor,
        rstd: Tensor,
        stats_from: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        sum_g, sum_gx = _sums(g, x, mean, rstd)
        n = x[:stats_from, 0].numel()
        scale = weight * rstd
        slope = -scale * rstd * sum_gx / n
        offset = -scale * sum_g / n - slope * mean
        if stats_from is None:
            dx = _combine(offset, (g, scale), (x, slope))
        else:
            dx = g * scale[:, None, None]
            _add(dx[:stats_from], offset, (x[:stats_from], slope))
        ctx.save_for_backward(g, x, weight, mean, rstd, sum_g, sum_gx)
        ctx.stats_from = stats_from
        return dx, sum_gx, sum_g

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor, vweight: Tensor, vbias: Tensor) -> tuple[Tensor | None, ...]:
        # The gradient of <v, dx> + <vweight, sum g xhat> + <vbias, sum g>; mean and rstd are
        # functions of x here, so they get no gradients as arguments.
        g, x, weight, mean, rstd, sum_g, sum_gx = ctx.saved_tensors
        stats_from = ctx.stats_from
        n = x[:stats_from, 0].numel()
        scale = weight * rstd
        sum_v, sum_vx = _sums(v[:stats_from], x[:stats_from], mean, rstd)
        sum_vg = _sums(v, g, torch.zeros_like(mean), torch.ones_like(mean))[1]
        dweight = rstd * (sum_vg - (sum_v * sum_g + sum_vx * sum_gx) / n)

        by_g = vweight - scale * sum_vx / n  # d / d xhat = by_g g + [row < stats_from] by_v v
        slope = by_g * rstd
        dg = _combine(vbias - scale * sum_v / n - slope * mean, (v, scale), (x, slope))

        by_v = -scale * sum_gx / n
        sum_d = by_g * sum_g + by_v * sum_v
        sum_dx = by_g * sum_gx + by_v * sum_vx + weight * dweight  # the last term through rstd
        slope = -rstd * rstd * sum_dx / n
        offset = -rstd * sum_d / n - slope * mean
        dx = g * (rstd * by_g)[:, None, None]
        _add(dx[:stats_from], offset, (v[:stats_from], rstd * by_v), (x[:stats_from], slope))
        return dg, dx, dweight, None, None, None


def _sums(a: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """Return, per channel, the sums of a and of a xhat, computed in one pass."""
    wanted = [False, True, True]
    # The sums do not depend on the weight, here rstd; but without one, CUDA does not return them.
    _, sum_ax, sum_a = torch.ops.aten.native_batch_norm_backward(
        a, x, rstd, None, None, mean, rstd, True, 0.0, wanted
    )
    return sum_a, sum_ax


def _combine(offset: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
    """Return, per channel, the offset plus the sum of the terms (images, coefficient)."""
    (x, coefficient), *others = terms
    total = torch.addcmul(offset[:, None, None], x, coefficient[:, None, None])
    for x, coefficient in others:
        total.addcmul_(x, coefficient[:, None, None])
    return total


def _add(total: Tensor, offset: Tensor, *terms: tuple[Tensor, Tensor]) -> None:
    """Add the offset and the terms to ``total`` in place, as in `_combine`."""
    total.add_(offset[:, None, None])
    for x, coefficient in terms:
        total.addcmul_(x, coefficient[:, None, None])
