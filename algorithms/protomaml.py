"""ProtoMAML: MAML's inner loop with a head initialised from the prototypes of each episode.

Triantafillou et al. 2020, "Meta-Dataset" (arXiv 1903.03096). With features f under the meta-learned
backbone and c_n the mean of f over the support images of class n, the head is initialised as

    W_n = 2 c_n,     b_n = -||c_n||^2,

whose logits W_n f(x) + b_n are Prototypical Networks' -||f(x) - c_n||^2 up to the constant
||f(x)||^2 of a query. Then backbone and head take the inner steps of `algorithms.maml`, which treat
the head as a weight of its own; the outer gradient also flows through its initialisation, in first
order as well. No head is meta-learned, so training and test may have any ways.

Differences from the official code (google-research/meta-dataset): all weights are initialised at
random, where it starts from a network pre-trained as a classifier; scale and offset of batch norm
are adapted, which its base configuration does not do; there is no weight decay; all classes of an
episode have the same number of shots.
"""

from typing import Literal

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.classifier import Classifier, FastWeights
from algorithms.learner import Learner
from algorithms.maml import descend
from algorithms.nn.norm_statistics import BATCH_STATISTICS


class ProtoMAML(Learner):
    """ProtoMAML on any backbone; training and test ways may differ.

    ``inner_steps`` and ``test_inner_steps`` are the numbers of gradient steps of size ``inner_lr``
    on the whole support set in training and in evaluation; with 0 steps this is a prototypical
    network. ``norm_statistics`` applies to training and test.
    """

    requires_classes = True
    norm_statistics_choices = BATCH_STATISTICS

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        inner_steps: int = 1,
        test_inner_steps: int = 5,
        inner_lr: float = 0.05,
        second_order: bool = True,
        norm_statistics: Literal["support", "support_and_query", "all_queries"] = "support",
    ) -> None:
        super().__init__()
        self.order = 2 if second_order else 1
        self.network = Classifier(backbone, ways, self.order)
        for name in ("weight", "bias"):  # each episode has its own
            self.network.head.register_parameter(name, None)
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.inner_lr = inner_lr
        self.second_order = second_order
        self.norm_statistics = norm_statistics

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[FastWeights, Tensor]:
        """Run the inner loop and return each task's own weights, with its support images."""
        images, labels = support_x.flatten(1, 2), support_y.flatten(1)
        tasks, ways, shots = support_y.shape
        # Separate tensors from those that are adapted, so that the inner loop does not
        # differentiate the initialisation of the head.
        features = self.network.forward_features(self.network.adapted_weights(tasks), images)
        prototypes = features.unflatten(1, (ways, shots)).mean(2)
        head = {"head.weight": 2 * prototypes, "head.bias": -prototypes.square().sum(-1)}
        fast = self.network.adapted_weights(tasks) | head
        rates = [features.new_full((), self.inner_lr)] * len(fast)
        steps = self.inner_steps if self.training else self.test_inner_steps
        create_graph = self.second_order and torch.is_grad_enabled()

        def losses(fast: FastWeights) -> Tensor:
            return self.loss(self.network.logits(fast, images), labels).mean(1)

        return descend(losses, fast, rates, steps, create_graph), images

    def predict(self, adapted: tuple[FastWeights, Tensor], query_x: Tensor) -> Tensor:
        """Classify the queries under each task's own weights."""
        fast, support_x = adapted
        return self.network.classify(fast, support_x, query_x, self.norm_statistics)
