"""Losses of tasks: what the outputs of a learner should be.

A learner uses the same loss in its inner and its outer loop. The domain of a data set gives it
(`bench.tasks.base.Domain`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class Loss:
    """A loss of outputs [T, M, N] for the targets of M examples of T tasks."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each example, [T, M]."""
        raise NotImplementedError

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the outer loss of all examples, a scalar."""
        return self(outputs, targets).mean()

    def encode(self, support_y: Tensor) -> Tensor:
        """Return the outputs [T, S, N] that a closed-form head fits, from support targets."""
        raise NotImplementedError

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return what outputs mean: class probabilities, or the outputs themselves."""
        return outputs

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the metric of each task of a training batch, [T]."""
        raise NotImplementedError


class CrossEntropy(Loss):
    """Cross-entropy of logits [T, M, N] with labels [T, M], int64, in nats.

    ``label_smoothing`` is the fraction of a label that is spread evenly over all classes. It
    applies to the outer loss alone. The score is the accuracy in percent.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of each example, without label smoothing."""
        return F.cross_entropy(outputs.mT, targets, reduction="none")

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of all examples, with label smoothing."""
        return F.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), label_smoothing=self.label_smoothing
        )

    def encode(self, support_y: Tensor) -> Tensor:
        """Return bool [T, S, N] from labels [T, N, K] or [1, S]: whether an example has a label.

        Unlike torch's ``one_hot``, this does not check labels [T, N, K], which would need a host
        sync on a GPU.
        """
        ways = support_y.shape[1] if support_y.ndim == 3 else int(support_y.max()) + 1
        labels = torch.arange(ways, device=support_y.device)
        return support_y.flatten(1).unsqueeze(-1) == labels

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of the classes."""
        return outputs.softmax(-1)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the accuracy of each task in percent."""
        return 100 * (outputs.detach().argmax(-1) == targets).float().mean(-1)


class SquaredError(Loss):
    """Squared error of outputs for targets, both [T, M, D], a mean over the D dimensions.

    The score is the mean squared error of a task.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the squared error of each example."""
        return (outputs - targets).square().mean(-1)

    def encode(self, support_y: Tensor) -> Tensor:
        """Return the targets [T, 1, K, D] of the support set as [T, K, D]."""
        return support_y.flatten(1, 2)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of each task."""
        return self(outputs.detach(), targets).mean(-1)
