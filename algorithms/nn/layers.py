"""Layers whose weights are shared by all tasks, or are one set of weights per task.

If weights have a leading task axis [T, ...], one operator processes all tasks in parallel: a
convolution maps them to groups, batch norm to channels, a linear layer to a batched product, an
embedding to one table. Images have the shape [B, G*C, H, W]: with shared weights G = 1 and B counts
the images of all tasks; with weights per task G = T and B counts the images of one task, so that
native batch norm has statistics per task at no extra cost. `algorithms.nn.functional.with_tensors`
inserts the fast weights.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.nn import convolution
from algorithms.nn.batch_norm import batch_norm, batch_norm_each


class Conv2d(nn.Conv2d):
    """A convolution of [B, G*C, H, W] with weights [O, C, k, k], or [T, O, C, k, k] for G = T.

    Its weights are in channels_last format, as the images are; so are the fast weights and
    gradients derived from them, and no convolution needs to convert formats.

    If ``order`` is 2, the gradient will be differentiated again, which torch does group by group.
    """

    order: int = 1

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of images."""
        weight, bias = self.weight, self.bias
        if weight.dim() == 4:
            return super().forward(x)
        bias = None if bias is None else bias.flatten()
        tasks = weight.shape[0]
        weight = weight.permute(0, 1, 3, 4, 2).flatten(0, 1).permute(0, 3, 1, 2)
        if self.order == 1 or isinstance(self.padding, str):
            return F.conv2d(x, weight, bias, self.stride, self.padding, groups=tasks)
        y = convolution.conv2d(x, weight, self.stride, self.padding, tasks)
        return y if bias is None else y + bias[:, None, None]


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm of [B, G*C, H, W] with scale and offset [C], or [T, C] for G = T.

    Statistics are those of the batch, or the running ones in evaluation mode, as in torch. With
    ``stats_from``, they are computed from so many of the first images and normalise the whole batch:
    so queries that follow their support set are normalised independently of each other. If ``order``
    is 2, the gradient will be differentiated again, for which torch's own batch norm is slow.

    With shared weights, the batch holds the images of ``tasks`` tasks, one task after the other,
    each with statistics of its own; the running ones follow their mean over the tasks.
    """

    order: int = 1

    def forward(self, x: Tensor, stats_from: int | None = None, tasks: int = 1) -> Tensor:
        """Return the normalised images."""
        weight, bias = self.weight, self.bias
        if stats_from is None and weight.dim() == 1:
            return self._each_task(x, tasks) if tasks > 1 and self.training else super().forward(x)
        if (
            stats_from is None and self.order == 1 and x[:, 0].numel() > 1
        ):  # torch rejects single pixels
            return F.batch_norm(
                x, None, None, weight.flatten(), bias.flatten(), training=True, eps=self.eps
            )
        return batch_norm(x, weight.flatten(), bias.flatten(), stats_from, self.eps)

    def _each_task(self, x: Tensor, tasks: int) -> Tensor:
        """Normalise [T*B, C, H, W] task by task, in training mode with shared weights."""
        mean, variance, count = self.running_mean, self.running_var, self.num_batches_tracked
        assert mean is not None and variance is not None and count is not None
        assert self.momentum is not None
        y, means, variances = batch_norm_each(x, self.weight, self.bias, tasks, self.eps)
        mean.lerp_(means.mean(0), self.momentum)
        variance.lerp_(variances.mean(0), self.momentum)
        count += 1
        return y


class Linear(nn.Linear):
    """A linear map of [T, B, F] with weights [O, F], or [T, O, F], one per task."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs [T, B, O]."""
        if self.weight.dim() == 2:
            return super().forward(x)
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class Embedding(nn.Embedding):
    """Rows of a table [V, D], or of [T, V, D], one per task, by their numbers in any shape [T, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows [T, ..., D]."""
        if self.weight.dim() == 2:
            return F.embedding(x, self.weight)
        tasks, size = self.weight.shape[:2]
        first = size * torch.arange(tasks, dtype=x.dtype, device=x.device)
        return F.embedding(x + first.view(-1, *[1] * (x.ndim - 1)), self.weight.flatten(0, 1))


def to_grouped(x: Tensor, per_task: bool) -> Tensor:
    """Return tasks [T, B, C, H, W] as [T*B, C, H, W], or as [B, T*C, H, W] with ``per_task``."""
    x = x.transpose(0, 1).flatten(1, 2) if per_task else x.flatten(0, 1)
    # clone(), not contiguous(): a 1-channel tensor is contiguous in both formats, so
    # contiguous() would leave it in the slow one.
    return x.clone(memory_format=torch.channels_last)


def from_grouped(x: Tensor, tasks: int, per_task: bool) -> Tensor:
    """Return flat features [T, B, C*H*W] of feature maps; the inverse of `to_grouped`."""
    features: Tensor = (
        x.unflatten(1, (tasks, -1)).flatten(2).transpose(0, 1)
        if per_task
        else x.flatten(1).unflatten(0, (tasks, -1))
    )
    return features
