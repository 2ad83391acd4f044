"""MAML and its settings: learn the initial weights from which a few gradient steps solve a task.

Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning" (arXiv 1703.03400). For each task i, the
inner loop takes S steps of gradient descent on the support set,

    theta_i <- theta_i - alpha * grad L_support(theta_i),     theta_i = theta at first,

and the outer loss is the mean over tasks of L_query(theta_i), differentiated with respect to theta
through the inner steps (second order), or with the inner gradients held constant (first order).

Settings of this rule have names of their own:

- FOMAML, in the same paper: first order;
- Meta-SGD (Li et al. 2017, arXiv 1707.09835): alpha is learned, too, one number for each weight, so
  that the inner step has a learned direction; it may become negative. The paper draws the first
  alpha of each weight from [0.005, 0.1], here all start from one value;
- ANIL (Raghu et al. 2020, arXiv 1909.09157): only the head has an inner loop, in training and in
  test, so that images pass the backbone once, whatever S is.

What differs from the official code of MAML: losses are means, where the official inner loss is a sum
over classes (so its rate 0.4 at 5 ways is 2.0 here); batch norm has a scale, and scale and offset are
adapted like all weights; batch-norm statistics need not be those of the queries.
"""

from collections.abc import Callable, Iterable
from functools import partial
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
    training and in evaluation; they change ``all`` weights or the ``head`` alone, as ``adapts`` says.
    ``inner_rate`` is alpha. With ``learn_inner_rate``, alpha becomes a meta-parameter, one scalar for
    each weight tensor, or one ``per_weight``. ``statistics`` holds for training and test.
    """

    any_ways = False
    statistics_choices = OF_BATCHES

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        adapts: Literal["all", "head"] = "all",
        inner_steps: int = 1,
        test_inner_steps: int = 3,
        inner_rate: float = 0.1,
        learn_inner_rate: Literal[False, True, "per_weight"] = False,
        second_order: bool = True,
        statistics: Literal["support", "one_query", "queries"] = "support",
    ) -> None:
        super().__init__()
        self.order = 2 if second_order else 1
        self.adapts = adapts
        # A backbone that is not adapted is differentiated by the outer loss alone.
        self.network = Classifier(backbone, ways, self.order if adapts == "all" else 1)
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.second_order = second_order
        self.statistics = statistics
        adapted = list((self.network if adapts == "all" else self.network.head).parameters())
        self.inner_rates: nn.Parameter | nn.ParameterList
        if learn_inner_rate == "per_weight":
            self.inner_rates = nn.ParameterList(torch.full_like(w, inner_rate) for w in adapted)
        else:
            self.inner_rates = nn.Parameter(
                torch.full((len(adapted),), inner_rate), requires_grad=bool(learn_inner_rate)
            )

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[FastWeights, Tensor]:
        """Run the inner loop: each task's own weights, with its support images for `predict`."""
        images, labels = support_x.flatten(1, 2), support_y.flatten(1)
        fast = self.network.fast_weights(len(labels))
        if self.adapts == "head":
            return self._adapt_head(fast, self.network.features(fast, images), labels), images
        return self._inner_loop(partial(self.network.logits, x=images), fast, labels), images

    def predict(self, adapted: tuple[FastWeights, Tensor], query_x: Tensor) -> Tensor:
        """Classify the queries under each task's own weights."""
        fast, support_x = adapted
        return self.network.classify(fast, support_x, query_x, self.statistics)

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """As `adapt` and `predict`, with all images in one pass of the backbone where that may be."""
        if self.adapts == "all" or self.statistics != "support":
            return super().forward(support_x, support_y, query_x)
        images, labels = torch.cat((support_x.flatten(1, 2), query_x), 1), support_y.flatten(1)
        fast = self.network.fast_weights(len(labels))
        features = self.network.features(fast, images, labels.shape[1])
        support, queries = features.tensor_split([labels.shape[1]], dim=1)
        return self.network.of_features(self._adapt_head(fast, support, labels), queries)

    def _adapt_head(self, fast: FastWeights, features: Tensor, labels: Tensor) -> FastWeights:
        """The weights, those of the head after the inner loop on support features [T, S, F]."""
        head = {name: weight for name, weight in fast.items() if name.startswith("head.")}
        logits = partial(self.network.of_features, features=features)
        return fast | self._inner_loop(logits, head, labels)

    def _inner_loop(
        self, logits: Callable[[FastWeights], Tensor], fast: FastWeights, labels: Tensor
    ) -> FastWeights:
        steps = self.inner_steps if self.training else self.test_inner_steps
        create_graph = self.second_order and torch.is_grad_enabled()
        return descend(logits, fast, labels, self.inner_rates, steps, create_graph)


def descend(
    logits: Callable[[FastWeights], Tensor],
    fast: FastWeights,
    labels: Tensor,
    rates: Iterable[Tensor],
    steps: int,
    create_graph: bool,
) -> FastWeights:
    """Each task's weights after gradient steps on the mean cross-entropy of its support set.

    ``logits`` maps weights such as ``fast`` to logits [T, S, N] of the support images, whose labels
    are [T, S]. The rates are one for each entry of ``fast``: a scalar, or a tensor like the weight
    of one task. With ``create_graph``, the result can be differentiated through the gradients.
    """
    with torch.enable_grad():
        fast = {name: weight.requires_grad_() for name, weight in fast.items()}
        for _ in range(steps):
            # The sum over tasks of their mean losses: its gradient is each task's own.
            loss = F.cross_entropy(logits(fast).mT, labels, reduction="none").mean(1).sum()
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=create_graph)
            fast = {
                name: torch.addcmul(weight, rate, gradient, value=-1)
                for (name, weight), rate, gradient in zip(
                    fast.items(), rates, gradients, strict=True
                )
            }
    return fast
