"""ProtoMAML: MAML's inner loop from a head that is made of the prototypes of each episode.

Triantafillou et al. 2020, "Meta-Dataset" (arXiv 1903.03096). With features f under the meta-learned
backbone and c_n the mean of f over the support images of class n, the head starts as

    W_n = 2 c_n,     b_n = -||c_n||^2,

whose logits W_n f(x) + b_n are Prototypical Networks' -||f(x) - c_n||^2 up to the constant ||f(x)||^2 of
a query. Then backbone and head take the inner steps of `algorithms.maml`, in which the head is a weight
of its own; the outer gradient also flows through its start, in first order, too. No head is
meta-learned, so that training and test may have any ways.

What differs from the official code (google-research/meta-dataset): all weights start at random, where
it starts from a network that was trained to classify; scale and offset of batch norm are adapted, which
its base configuration does not do; no weight decay; an episode has as many shots of each class.
"""

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.classifier import Classifier, FastWeights
from algorithms.learner import Learner
from algorithms.maml import descend
from algorithms.statistics import OF_BATCHES


class ProtoMAML(Learner):
    """ProtoMAML on any backbone; training ways may differ from test ways.

    ``inner_steps`` and ``test_inner_steps`` count gradient steps of size ``inner_rate`` on the whole
    support set in training and in evaluation; without any, this is a prototypical network.
    ``statistics`` holds for training and test.
    """

    statistics_choices = OF_BATCHES

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        inner_steps: int = 1,
        test_inner_steps: int = 5,
        inner_rate: float = 0.05,
        second_order: bool = True,
        statistics: Literal["support", "one_query", "queries"] = "support",
    ) -> None:
        super().__init__()
        self.order = 2 if second_order else 1
        self.network = Classifier(backbone, ways, self.order)
        for name in ("weight", "bias"):  # each episode brings its own
            self.network.head.register_parameter(name, None)
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.inner_rate = inner_rate
        self.second_order = second_order
        self.statistics = statistics

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[FastWeights, Tensor]:
        """Run the inner loop: each task's own weights, with its support images for `predict`."""
        images, labels = support_x.flatten(1, 2), support_y.flatten(1)
        tasks, ways, shots = support_y.shape
        # Other tensors than those that are adapted: the inner loop does not differentiate the start.
        features = self.network.features(self.network.fast_weights(tasks), images)
        prototypes = features.unflatten(1, (ways, shots)).mean(2)
        head = {"head.weight": 2 * prototypes, "head.bias": -prototypes.square().sum(-1)}
        fast = self.network.fast_weights(tasks) | head
        logits = partial(self.network.logits, x=images)
        rates = [features.new_full((), self.inner_rate)] * len(fast)
        steps = self.inner_steps if self.training else self.test_inner_steps
        create_graph = self.second_order and torch.is_grad_enabled()
        return descend(logits, fast, labels, rates, steps, create_graph), images

    def predict(self, adapted: tuple[FastWeights, Tensor], query_x: Tensor) -> Tensor:
        """Classify the queries under each task's own weights."""
        fast, support_x = adapted
        return self.network.classify(fast, support_x, query_x, self.statistics)
