"""The network that gradient-based learners adapt: a backbone with a linear head."""

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.nn.functional import with_tensors
from algorithms.nn.layers import BatchNorm2d, Conv2d, Linear
from algorithms.nn.norm_statistics import Statistics, run_queries

FastWeights = dict[str, Tensor]
"""Parameters of a `Classifier` by name, each with a leading task axis [T, ...]."""


class Classifier(nn.Module):
    """A backbone and a linear head, mapping images [T, B, C, H, W] to logits [T, B, N].

    ``order`` is the highest order of its derivatives: 1, or 2 if gradients are differentiated
    again.
    """

    def __init__(self, backbone: Backbone, outputs: int, order: int = 1) -> None:
        super().__init__()
        if not backbone.supports_weights_per_task:
            raise ValueError(
                "the inner loop needs weights per task, which this network does not have; freeze it "
                "(backbone.frozen=true), or choose a learner that shares its weights, such as protonet"
            )
        self.backbone = backbone
        self.head = Linear(backbone.num_features, outputs)
        for module in self.modules():
            if isinstance(module, BatchNorm2d | Conv2d):
                module.order = order
            if isinstance(module, BatchNorm2d):
                # With weights per task there are no shared running statistics.
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the logits [T, B, N] of images.

        ``stats_from`` limits batch-norm statistics to the first images of each task.
        """
        result: Tensor = self.head(self.backbone(x, stats_from))
        return result

    def fast_weights(self, tasks: int) -> FastWeights:
        """Return the parameters expanded to all tasks.

        This makes no copy, and gradients flow back to the parameters.
        """
        return {name: p.expand(tasks, *p.shape) for name, p in self.named_parameters()}

    def adapted_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters that the inner loop of MAML changes, with their names."""
        for name, parameter in self.named_parameters():
            if name.removeprefix("backbone.") not in self.backbone.not_adapted:
                yield name, parameter

    def adapted_weights(self, tasks: int) -> FastWeights:
        """Return the `adapted_parameters` expanded to all tasks, as `fast_weights` does."""
        return {name: p.expand(tasks, *p.shape) for name, p in self.adapted_parameters()}

    def logits(self, fast: FastWeights, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return logits [T, B, N] under each task's own weights.

        Batch norm uses the statistics of the batch, see ``stats_from`` of `forward`.
        """
        result: Tensor = with_tensors(self, fast)(x, stats_from)
        return result

    def forward_features(
        self, fast: FastWeights, x: Tensor, stats_from: int | None = None
    ) -> Tensor:
        """Return the features [T, B, F] that `logits` passes to the head."""
        result: Tensor = with_tensors(self, fast).backbone(x, stats_from)
        return result

    def of_features(self, fast: FastWeights, features: Tensor) -> Tensor:
        """Return logits [T, B, N] of features under each task's own head."""
        result: Tensor = with_tensors(self, fast).head(features)
        return result

    def classify(
        self, fast: FastWeights, support_x: Tensor, query_x: Tensor, statistics: Statistics
    ) -> Tensor:
        """Return logits [T, M, N] of the queries under each task's own weights.

        Batch norm normalises them by the given ``statistics``.
        """
        return run_queries(partial(self.logits, fast), support_x, query_x, statistics)
