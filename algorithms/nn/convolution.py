"""Grouped convolution whose second derivative is three convolutions for any number of groups.

Torch computes the second derivative of a convolution in a loop over its groups: with weights per
task, one small dilated convolution per task. But the gradients dx = I(g, w) and dw = W(x, g) of y =
C(x, w) are bilinear, as y is, so that their own gradients are the same three operators:

    <v, I(g, w)> + <u, W(x, g)>   has   dg = C(v, w) + C(x, u),   dx = I(g, u),   dw = W(v, g).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Setting(NamedTuple):
    """The arguments of `torch.nn.functional.conv2d` besides tensors."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int


def conv2d(
    x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...], groups: int
) -> Tensor:
    """Return ``F.conv2d`` of x [B, C, H, W], without bias or dilation; twice differentiable."""
    y: Tensor = _Convolution.apply(x, weight, Setting(stride, padding, groups))
    return y


def _forward(x: Tensor, weight: Tensor, setting: Setting) -> Tensor:
    stride, padding, groups = setting
    result: Tensor = torch.ops.aten.convolution(
        x, weight, None, stride, padding, (1, 1), False, (0, 0), groups
    )
    return result


def _gradients(
    g: Tensor, x: Tensor, weight: Tensor, setting: Setting, needed: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return I(g, weight) and W(x, g), each if it is ``needed``."""
    stride, padding, groups = setting
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, padding, (1, 1), False, (0, 0), groups, [*needed, False]
    )
    return dx, dweight


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, setting: Setting) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.setting = setting
        return _forward(x, weight, setting)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needed = list(ctx.needs_input_grad[:2])
        differentiate = _Backward.apply if torch.is_grad_enabled() else _gradients
        return *differentiate(g, x, weight, ctx.setting, needed), None


class _Backward(Function):
    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, setting: Setting, needed: list[bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.save_for_backward(g, x, weight)
        ctx.setting = setting
        ctx.set_materialize_grads(False)
        return _gradients(g, x, weight, setting, needed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor | None, u: Tensor | None) -> tuple[Tensor | None, ...]:
        g, x, weight = ctx.saved_tensors
        need_g, need_x, need_weight = ctx.needs_input_grad[:3]
        dg = None
        if need_g and v is not None:
            dg = _forward(v, weight, ctx.setting)
        if need_g and u is not None:
            by_u = _forward(x, u, ctx.setting)
            dg = by_u if dg is None else dg.add_(by_u)
        dx = dweight = None
        needed = [need_x and u is not None, need_weight and v is not None]
        if any(needed):  # for outputs that are not needed, only shapes are used
            v, u = x if v is None else v, weight if u is None else u
            dx, dweight = _gradients(g, v, u, ctx.setting, needed)
        return dg, dx, dweight, None, None
