"""Baseline: classify all training classes, then fit a new head for each test task.

Chen, Liu, Kira, Wang, Huang 2019, "A Closer Look at Few-shot Classification" (arXiv 1904.04232). In
training, a linear head classifies all C training classes: the outer loss is the cross-entropy of

    logits = W f(x) + b,     W [C, F], b [C].

In a test task the backbone is frozen, and a new head for its N ways is fitted to the support
features by gradient descent with momentum m and weight decay,

    v <- m v + (1 - m) (grad + decay theta),   theta <- theta - lr v,   v_0 = grad + decay theta,

on mini-batches that cover the support set once per epoch. The gradient is written out by hand,
which is several times as fast as autograd for heads this small. A training "episode" is a batch:
its support set has one image of each of ``ways`` classes, and it has no queries.

Differences from the official code: a training batch has no two images of a class; the new head
starts at zero, where the code draws it at random; the order of the images in an epoch is the same
for all tasks and every time, where the code draws it; the parameters are those of the best
validation, where the code takes the last. As in the code, batch norm uses its running statistics in
evaluation.
"""

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.features import FeatureLearner
from algorithms.learner import TaskBatch
from algorithms.nn.layers import Linear
from algorithms.nn.permutations import permutations

MOMENTUM = 0.9
WEIGHT_DECAY = 0.001

Head = dict[str, Tensor]
"""Parameters of a head by name, each with a leading task axis [T, ...]."""


class Baseline(FeatureLearner):
    """A backbone pre-trained with a linear head; ``ways`` is the number of training classes.

    ``test_epochs`` is the number of epochs over the support set of a test task, in mini-batches of
    ``test_batch`` images; ``head_lr`` is the learning rate of the new head.
    """

    requires_classes = True
    trains_classifier = True
    uses_query_loss = False

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        head_lr: float = 0.01,
        test_epochs: int = 100,
        test_batch: int = 4,
    ) -> None:
        super().__init__(backbone)
        self.head = self.new_head(ways)
        self.head_lr = head_lr
        self.test_epochs, self.test_batch = test_epochs, test_batch

    def new_head(self, classes: int) -> nn.Module:
        """Return the head that is trained together with the backbone."""
        head = Linear(self.backbone.num_features, classes)
        nn.init.zeros_(head.bias)
        return head

    def start(self, tasks: int, ways: int, like: Tensor) -> Head:
        """Return the initial heads of test tasks."""
        weight = like.new_zeros(tasks, ways, self.backbone.num_features)
        return {"weight": weight, "bias": like.new_zeros(tasks, ways)}

    def classify(self, fitted: Head, features: Tensor) -> Tensor:
        """Return logits [T, B, N] of features [T, B, F] under each task's own head."""
        return torch.baddbmm(fitted["bias"].unsqueeze(1), features, fitted["weight"].mT)

    def gradient(self, head: Head, features: Tensor, errors: Tensor) -> Head:
        """Return the gradient of a loss with respect to the head.

        ``errors`` [T, B, N] is the gradient of that loss with respect to the logits.
        """
        return {"weight": errors.mT @ features, "bias": errors.sum(1)}

    def outer(self, episodes: TaskBatch) -> tuple[Tensor, Tensor]:
        """Return the logits [T, N*K, C] of the support images, and their training classes."""
        classes = episodes.classes.unsqueeze(-1).expand(episodes.support_y.shape)
        return self.head(self.backbone(episodes.support_x.flatten(1, 2))), classes.flatten(1)

    @torch.no_grad()
    def fit(self, features: Tensor, support_y: Tensor) -> Head:
        """Return a head for each task, fitted to its support features."""
        labels = self.loss.encode(support_y).to(features)
        head = self.start(len(features), support_y.shape[1], features)
        velocity: Head = {}
        zero = torch.zeros((), dtype=torch.int64, device=labels.device)
        for order in permutations(labels.shape[1], self.test_epochs, zero):
            parts = (
                each.index_select(1, order).split(self.test_batch, 1) for each in (features, labels)
            )
            for x, y in zip(*parts, strict=True):
                errors = (self.classify(head, x).softmax(-1) - y) / x.shape[1]
                for name, gradient in self.gradient(head, x, errors).items():
                    gradient = gradient.add_(head[name], alpha=WEIGHT_DECAY)
                    velocity[name] = velocity.get(name, gradient).lerp(gradient, 1 - MOMENTUM)
                    head[name] = head[name].sub(velocity[name], alpha=self.head_lr)
        return head
