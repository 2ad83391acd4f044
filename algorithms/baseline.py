"""Baseline: ordinary classification of all training classes, and for each test task a new head.

Chen, Liu, Kira, Wang, Huang 2019, "A Closer Look at Few-shot Classification" (arXiv 1904.04232). In
training, a linear head tells all C training classes apart: the outer loss is the cross-entropy of

    logits = W f(x) + b,     W [C, F], b [C].

In a test task the backbone stays as it is, and a new head for its N ways is fitted to the support
features by gradient descent with momentum m and weight decay,

    v <- m v + (1 - m) (grad + decay theta),   theta <- theta - rate v,   v = grad + decay theta at first,

on mini-batches that go through the support set once an epoch. The gradient is written out, which is
several times as fast as torch's for heads this small. A training "episode" is a batch: one image
of each of so many classes, as support set, and no queries.

What differs from the official code: a training batch has no two images of a class; the new head starts at
zero, where the code draws it; the order of the images in an epoch is the same for all tasks and
each time, where the code draws it; the parameters of the best validation, where the code takes
the last. As in the code, batch norm uses its running statistics in evaluation.
"""

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner, one_hot
from algorithms.layers import Linear
from algorithms.learner import Episodes
from algorithms.shuffles import shuffles

MOMENTUM = 0.9
WEIGHT_DECAY = 0.001

Head = dict[str, Tensor]
"""Parameters of a head by name, each with a leading task axis [T, ...]."""


class Baseline(FeatureLearner):
    """A backbone pre-trained with a linear head; ``ways`` is the number of training classes.

    ``test_epochs`` is how often a test task's new head sees each support image, in mini-batches of
    ``test_batch`` images; ``head_rate`` is the step size.
    """

    learns_classes = True
    learns_from_queries = False

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        head_rate: float = 0.01,
        test_epochs: int = 100,
        test_batch: int = 4,
    ) -> None:
        super().__init__(backbone)
        self.head = self.new_head(ways)
        self.head_rate = head_rate
        self.test_epochs, self.test_batch = test_epochs, test_batch

    def new_head(self, classes: int) -> nn.Module:
        """The head that is trained along with the backbone."""
        head = Linear(self.backbone.features, classes)
        nn.init.zeros_(head.bias)
        return head

    def start(self, tasks: int, ways: int, like: Tensor) -> Head:
        """Where the heads of test tasks start."""
        weight = like.new_zeros(tasks, ways, self.backbone.features)
        return {"weight": weight, "bias": like.new_zeros(tasks, ways)}

    def classify(self, fitted: Head, features: Tensor) -> Tensor:
        """Logits [T, B, N] of features [T, B, F] under each task's own head."""
        return torch.baddbmm(fitted["bias"].unsqueeze(1), features, fitted["weight"].mT)

    def gradient(self, head: Head, features: Tensor, errors: Tensor) -> Head:
        """That of a loss whose gradient with respect to the logits [T, B, N] is ``errors``."""
        return {"weight": errors.mT @ features, "bias": errors.sum(1)}

    def outer(self, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """Logits for all training classes [T, N*K, C] of the support images, and their classes."""
        classes = episodes.classes.unsqueeze(-1).expand(episodes.support_y.shape)
        return self.head(self.backbone(episodes.support_x.flatten(1, 2))), classes.flatten(1)

    @torch.no_grad()
    def fit(self, features: Tensor, support_y: Tensor) -> Head:
        """A head for each task, fitted to its support features."""
        labels = one_hot(support_y).to(features)
        head = self.start(len(features), support_y.shape[1], features)
        velocity: Head = {}
        zero = torch.zeros((), dtype=torch.int64, device=labels.device)
        for order in shuffles(labels.shape[1], self.test_epochs, zero):
            parts = (
                each.index_select(1, order).split(self.test_batch, 1) for each in (features, labels)
            )
            for x, y in zip(*parts, strict=True):
                errors = (self.classify(head, x).softmax(-1) - y) / x.shape[1]
                for name, gradient in self.gradient(head, x, errors).items():
                    gradient = gradient.add_(head[name], alpha=WEIGHT_DECAY)
                    velocity[name] = velocity.get(name, gradient).lerp(gradient, 1 - MOMENTUM)
                    head[name] = head[name].sub(velocity[name], alpha=self.head_rate)
        return head
