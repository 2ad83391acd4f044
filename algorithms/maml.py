"""MAML: learn the initial weights from which a few gradient steps solve a task.

Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning" (arXiv 1703.03400). For each task i, the
inner loop takes S steps of gradient descent on the support set,

    theta_i <- theta_i - alpha * grad L_support(theta_i),     theta_i = theta at first,

and the outer loss is the mean over tasks of L_query(theta_i), differentiated with respect to theta
through the inner steps (second order), or with the inner gradients held constant (first order).

What differs from the official code: losses are means, where the official inner loss is a sum over
classes (so its rate 0.4 at 5 ways is 2.0 here); batch norm has a scale, and scale and offset are
adapted like all weights; batch-norm statistics need not be those of the queries.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.classifier import Classifier, FastWeights
from algorithms.learner import Learner
from algorithms.statistics import OF_BATCHES


class MAML(Learner):
    """Model-Agnostic Meta-Learning of a backbone with a linear head for N ways.

    ``inner_steps`` and ``test_inner_steps`` count gradient steps on the whole support set in
    training and in evaluation; ``inner_rate`` is alpha. With ``learn_inner_rate``, alpha becomes a
    meta-parameter, one scalar for each weight tensor. ``statistics`` holds for training and test.
    """

    any_ways = False
    statistics_choices = OF_BATCHES

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        inner_steps: int = 1,
        test_inner_steps: int = 3,
        inner_rate: float = 0.4,
        learn_inner_rate: bool = False,
        second_order: bool = True,
        statistics: Literal["support", "one_query", "queries"] = "support",
    ) -> None:
        super().__init__()
        self.order = 2 if second_order else 1
        self.network = Classifier(backbone, ways, self.order)
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.second_order = second_order
        self.statistics = statistics
        names = [name for name, _ in self.network.named_parameters()]
        self.inner_rates = nn.Parameter(
            torch.full((len(names),), inner_rate), requires_grad=learn_inner_rate
        )

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[FastWeights, Tensor]:
        """Run the inner loop: each task's own weights, with its support images for `predict`."""
        create_graph = self.second_order and torch.is_grad_enabled()
        support_x, labels = support_x.flatten(1, 2), support_y.flatten(1)
        with torch.enable_grad():
            fast = self.network.fast_weights(len(labels))
            for _ in range(self.inner_steps if self.training else self.test_inner_steps):
                logits = self.network.logits(fast, support_x)
                # The sum over tasks of their mean losses: its gradient is each task's own.
                loss = F.cross_entropy(logits.mT, labels, reduction="none").mean(1).sum()
                gradients = torch.autograd.grad(
                    loss, list(fast.values()), create_graph=create_graph
                )
                fast = {
                    name: torch.addcmul(weight, rate, gradient, value=-1)
                    for (name, weight), rate, gradient in zip(
                        fast.items(), self.inner_rates, gradients, strict=True
                    )
                }
        return fast, support_x

    def predict(self, adapted: tuple[FastWeights, Tensor], query_x: Tensor) -> Tensor:
        """Classify the queries under each task's own weights."""
        fast, support_x = adapted
        return self.network.classify(fast, support_x, query_x, self.statistics)
