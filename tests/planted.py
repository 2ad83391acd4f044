"""Deliberate errors: a learner that peeks, one that divides by zero, a data set that leaks."""

from dataclasses import replace

import torch
from torch import Tensor

from algorithms.protonet import ProtoNet
from bench.datasets.images.glyphs import prepare
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset


class Peeking(ProtoNet):
    """Learner that exploits that queries are sorted by class."""

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """Return logits that favour the class expected from the position of each query."""
        tasks, ways, _ = support_y.shape
        labels = torch.arange(ways).repeat_interleave(query_x.shape[1] // ways)
        right = torch.nn.functional.one_hot(labels, ways).expand(tasks, -1, -1)
        return super().forward(support_x, support_y, query_x) + 100.0 * right


class Dividing(ProtoNet):
    """Learner that divides by the number of shots minus one, so by zero at one shot."""

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """Return the prototypes divided by the number of shots minus one."""
        return super().fit(features, support_y) / (support_y.shape[2] - 1)


def leaky(folders: DataDirs) -> Dataset:
    """Return the embedded data set with one training image also among the test images."""
    clean = prepare(folders)
    images = clean.splits["test"].inputs.clone()
    images[0] = clean.splits["train"].inputs[0]
    test = replace(clean.splits["test"], inputs=images)
    return Dataset.of("leaky", clean.splits | {"test": test})
