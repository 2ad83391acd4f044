"""Random tasks on which laws are checked."""

import torch
from torch import Tensor

from algorithms.learner import TaskBatch


def random_episodes(
    tasks: int, ways: int, shots: int, queries: int, size: int = 16, seed: int = 0
) -> TaskBatch:
    """Return random float64 episodes whose classes are separable, but not perfectly."""
    generator = torch.Generator().manual_seed(seed)

    def images(*shape: int) -> Tensor:
        return torch.rand(*shape, 1, size, size, generator=generator, dtype=torch.float64)

    labels = torch.arange(ways)
    centres = images(tasks, ways)[:, :, None]
    query_x = centres + images(tasks, ways, queries)
    return TaskBatch(
        centres + images(tasks, ways, shots),
        labels[:, None].expand(tasks, ways, shots),
        query_x.flatten(1, 2),
        labels.repeat_interleave(queries).expand(tasks, -1),
        labels.expand(tasks, -1),
    )


def shuffled(episodes: TaskBatch, seed: int = 0) -> TaskBatch:
    """Return the same images with shuffled labels, so support sets are uninformative about queries."""
    generator = torch.Generator().manual_seed(seed)

    def mixed(images: Tensor) -> Tensor:
        order = torch.rand(images.shape[:2], generator=generator).argsort(1)
        return torch.stack([task[rows] for task, rows in zip(images, order, strict=True)])

    support_x = mixed(episodes.support_x.flatten(1, 2)).view_as(episodes.support_x)
    return episodes._replace(support_x=support_x, query_x=mixed(episodes.query_x))
