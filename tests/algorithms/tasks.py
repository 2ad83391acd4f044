"""Plain per-task reference maths, for the tests of learners."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.learner import Learner, TaskBatch
from bench.check.tasks import random_episodes


class PlainConv4(nn.Module):
    """A strided Conv-4 with a linear head for one task, from torch's own layers."""

    def __init__(self, filters: int, features: int, ways: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(1 if block == 0 else filters, filters, 3, 2, padding=1, bias=False)
            for block in range(4)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(filters, track_running_stats=False) for _ in range(4)
        )
        self.head = nn.Linear(features, ways)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
        return self.head(x.flatten(1))

    def load_from(self, classifier: nn.Module) -> "PlainConv4":
        """Take the weights of our `Classifier` on a `Conv4`."""
        theirs = {
            name.removeprefix("backbone."): weight for name, weight in classifier.named_parameters()
        }
        with torch.no_grad():
            for name, weight in self.named_parameters():
                weight.copy_(theirs[name])
        return self


def plain_forward(
    weights: dict[str, Tensor], x: Tensor, statistics_of: Tensor | None = None
) -> Tensor:
    """Logits of one task by the definition of each layer; ``statistics_of`` feeds batch norm."""
    other = x if statistics_of is None else statistics_of
    for block in range(4):
        kernel = weights[f"backbone.convolutions.{block}.weight"]
        scale, offset = (weights[f"backbone.norms.{block}.{part}"] for part in ("weight", "bias"))
        x, other = (F.conv2d(images, kernel, None, 2, 1) for images in (x, other))
        mean = other.mean((0, 2, 3), keepdim=True)
        variance = other.var((0, 2, 3), correction=0, keepdim=True)
        x, other = (
            F.relu(
                (images - mean) / (variance + 1e-5).sqrt() * scale[:, None, None]
                + offset[:, None, None]
            )
            for images in (x, other)
        )
    return x.flatten(1) @ weights["head.weight"].T + weights["head.bias"]


def plain_then_own(
    learner: Learner, plain: Callable[[Learner, TaskBatch], None]
) -> dict[str, Tensor]:
    """The outer gradient of ``plain``; the learner's own, two tasks at once, stays in ``.grad``."""
    episodes = random_episodes(tasks=5, ways=3, shots=2, queries=3)
    plain(learner, episodes)
    expected = {name: p.grad.clone() for name, p in learner.named_parameters()}
    learner.zero_grad()
    learner.chunk_size = 2
    learner.meta_gradient(episodes)
    return expected
