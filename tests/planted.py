"""Mistakes on purpose: a learner that peeks, one that divides by zero, a data set that leaks."""

from dataclasses import replace

import torch
from torch import Tensor

from algorithms.protonet import ProtoNet
from bench.data.cache import Folders
from bench.data.glyphs import prepare
from bench.data.pool import Dataset


class Peeking(ProtoNet):
    """Knows that queries come class by class."""

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        tasks, ways, _ = support_y.shape
        labels = torch.arange(ways).repeat_interleave(query_x.shape[1] // ways)
        right = torch.nn.functional.one_hot(labels, ways).expand(tasks, -1, -1)
        return super().forward(support_x, support_y, query_x) + 100.0 * right


class Dividing(ProtoNet):
    """Divides by the shots less one."""

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        return super().fit(features, support_y) / (support_y.shape[2] - 1)


def leaky(folders: Folders) -> Dataset:
    """The embedded data set with one training image among the test images, too."""
    clean = prepare(folders)
    images = clean.splits["test"].images.clone()
    images[0] = clean.splits["train"].images[0]
    test = replace(clean.splits["test"], images=images)
    return Dataset.of("leaky", clean.splits | {"test": test})
