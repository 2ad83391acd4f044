"""Random tasks and plain per-task reference maths, for the tests of learners."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.learner import Episodes, Learner


def random_episodes(
    tasks: int, ways: int, shots: int, queries: int, size: int = 16, seed: int = 0
) -> Episodes:
    """Float64 episodes whose classes can be told apart, but not perfectly."""
    generator = torch.Generator().manual_seed(seed)

    def images(*shape: int) -> Tensor:
        return torch.rand(*shape, 1, size, size, generator=generator, dtype=torch.float64)

    labels = torch.arange(ways)
    centres = images(tasks, ways)[:, :, None]
    query_x = centres + images(tasks, ways, queries)
    return Episodes(
        centres + images(tasks, ways, shots),
        labels[:, None].expand(tasks, ways, shots),
        query_x.flatten(1, 2),
        labels.repeat_interleave(queries).expand(tasks, -1),
        labels.expand(tasks, -1),
    )


def shuffled(episodes: Episodes, seed: int = 0) -> Episodes:
    """The same images under other labels, so that what a support set says of its queries is luck."""
    generator = torch.Generator().manual_seed(seed)

    def mixed(images: Tensor) -> Tensor:
        order = torch.rand(images.shape[:2], generator=generator).argsort(1)
        return torch.stack([task[rows] for task, rows in zip(images, order, strict=True)])

    support_x = mixed(episodes.support_x.flatten(1, 2)).view_as(episodes.support_x)
    return episodes._replace(support_x=support_x, query_x=mixed(episodes.query_x))


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
    learner: Learner, plain: Callable[[Learner, Episodes], None]
) -> dict[str, Tensor]:
    """The outer gradient of ``plain``; the learner's own, two tasks at once, stays in ``.grad``."""
    episodes = random_episodes(tasks=5, ways=3, shots=2, queries=3)
    plain(learner, episodes)
    expected = {name: p.grad.clone() for name, p in learner.named_parameters()}
    learner.zero_grad()
    learner.tasks_at_once = 2
    learner.meta_gradient(episodes)
    return expected
