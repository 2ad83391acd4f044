"""Baseline++: Baseline with a head that uses the cosine of a feature and each class's direction.

Chen, Liu, Kira, Wang, Huang 2019 (arXiv 1904.04232). With directions v_n and lengths g_n that are
learned, in training and for each test task, the logits are

    logit_n = scale * g_n * cos(v_n, f(x)),     scale = 2, or 10 for more than 200 classes.

As in the official code, weight norm gives the cosine a learned length for each class, which the
paper does not mention. The differences are those listed in `algorithms.baseline`, except that the
head of a test task starts with the same direction for all classes, (1, -1, 1, -1, ...), where the
code draws random ones: like those, it is nearly orthogonal to features. So all logits are equal at
first, and the result does not depend on the order of the classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.baseline import Baseline, Head


class BaselinePP(Baseline):
    """Baseline with a cosine head, see `Baseline` for its options."""

    def new_head(self, classes: int) -> nn.Module:
        """Return the head that is trained together with the backbone."""
        return CosineHead(self.backbone.num_features, classes)

    def start(self, tasks: int, ways: int, like: Tensor) -> Head:
        """Return the initial heads of test tasks: as long as random directions are on average."""
        size = self.backbone.num_features
        signs = 1.0 - 2.0 * (torch.arange(size, device=like.device) % 2).to(like.dtype)
        return {
            "direction": (signs * (3 * size) ** -0.5).repeat(tasks, ways, 1),
            "length": like.new_full((tasks, ways), 3**-0.5),
        }

    def classify(self, fitted: Head, features: Tensor) -> Tensor:
        """Return logits [T, B, N] of features [T, B, F] under each task's own head."""
        return cosine_logits(fitted["direction"], fitted["length"], features)

    def gradient(self, head: Head, features: Tensor, errors: Tensor) -> Head:
        """Return the gradient as `Baseline` does; that of directions is orthogonal to them."""
        size = head["direction"].norm(dim=-1, keepdim=True)
        direction = head["direction"] / size
        summed = scale_for(errors.shape[-1]) * (errors.mT @ F.normalize(features, dim=-1))
        along = (summed * direction).sum(-1, keepdim=True)
        across = torch.addcmul(summed, along, direction, value=-1)
        return {
            "direction": across * (head["length"].unsqueeze(-1) / size),
            "length": along.squeeze(-1),
        }


class CosineHead(nn.Module):
    """A head from features [T, B, F] to logits [T, B, N], initialised as in the official code."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        start = nn.Linear(features, classes, bias=False).weight.detach()
        self.direction = nn.Parameter(start)
        self.length = nn.Parameter(start.norm(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of features."""
        return cosine_logits(self.direction, self.length, x)


def cosine_logits(direction: Tensor, length: Tensor, x: Tensor) -> Tensor:
    """Return logits [T, B, N] of features ``x`` [T, B, F].

    ``direction`` is [N, F] and ``length`` [N]; both may have a leading task axis.
    """
    factor = scale_for(length.shape[-1]) * length.unsqueeze(-1)
    return F.normalize(x, dim=-1) @ (factor * F.normalize(direction, dim=-1)).mT


def scale_for(classes: int) -> float:
    """Return the factor of the logits for a number of classes."""
    return 2.0 if classes <= 200 else 10.0
