"""The network that gradient-based learners adapt: a backbone with a linear head."""

from functools import partial

from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.layers import BatchNorm2d, Conv2d, Linear
from algorithms.stateless import with_tensors
from algorithms.statistics import Statistics, of_queries

FastWeights = dict[str, Tensor]
"""Parameters of a `Classifier` by name, each with a leading task axis [T, ...]."""


class Classifier(nn.Module):
    """Maps images [T, B, C, H, W] to logits [T, B, N] by a backbone and a linear head.

    ``order`` is how often it will be differentiated one after the other: once, or twice.
    """

    def __init__(self, backbone: Backbone, ways: int, order: int = 1) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Linear(backbone.features, ways)
        for module in self.modules():
            if isinstance(module, BatchNorm2d | Conv2d):
                module.order = order
            if isinstance(module, BatchNorm2d):
                # Weights that are each task's own are normalised by each batch's own statistics.
                module.running_mean = module.running_var = module.num_batches_tracked = None

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        """Logits; ``rows`` limits batch-norm statistics to the first images of a task."""
        return self.head(self.backbone(x, rows))

    def fast_weights(self, tasks: int) -> FastWeights:
        """The parameters once a task, without a copy; gradients flow back to the parameters."""
        return {name: p.expand(tasks, *p.shape) for name, p in self.named_parameters()}

    def logits(self, fast: FastWeights, x: Tensor, rows: int | None = None) -> Tensor:
        """Logits [T, B, N] under each task's own weights, normalised by the batch (see ``rows``)."""
        return with_tensors(self, fast)(x, rows)

    def features(self, fast: FastWeights, x: Tensor, rows: int | None = None) -> Tensor:
        """The features [T, B, F] that `logits` gives to the head."""
        return with_tensors(self, fast).backbone(x, rows)

    def of_features(self, fast: FastWeights, features: Tensor) -> Tensor:
        """The logits [T, B, N] of features under each task's own head."""
        return with_tensors(self, fast).head(features)

    def classify(
        self, fast: FastWeights, support_x: Tensor, query_x: Tensor, statistics: Statistics
    ) -> Tensor:
        """Logits of the queries [T, M, N] under each task's own weights and chosen statistics."""
        return of_queries(partial(self.logits, fast), support_x, query_x, statistics)
