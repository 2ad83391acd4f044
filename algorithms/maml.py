"""MAML and its variants: learn initial weights from which a few gradient steps solve a task.

Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning" (arXiv 1703.03400). For each task i, the
inner loop takes S steps of gradient descent on the support set,

    theta_i <- theta_i - alpha * grad L_support(theta_i),     initially theta_i = theta,

and the outer loss is the mean over tasks of L_query(theta_i), differentiated with respect to theta
through the inner steps (second order), or with the inner gradients held constant (first order).

Some settings of this rule have their own names:

- FOMAML, in the same paper: first order;
- Meta-SGD (Li et al. 2017, arXiv 1707.09835): alpha is learned too, one number per weight, so that
  the direction of the inner step is learned; alpha may become negative. The paper draws the initial
  alpha of each weight from [0.005, 0.1]; here all start from the same value;
- ANIL (Raghu et al. 2020, arXiv 1909.09157): the inner loop adapts only the head, in training and
  in test, so that images pass the backbone once, whatever S is.

Differences from the official code of MAML: losses are means, where the official inner loss is a sum
over classes (so its learning rate of 0.4 at 5 ways is 2.0 here); batch norm has a scale, and scale
and offset are adapted like all weights; batch-norm statistics need not be those of the queries.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.classifier import Classifier, FastWeights
from algorithms.learner import Learner
from algorithms.nn.norm_statistics import BATCH_STATISTICS


class MAML(Learner):
    """Model-Agnostic Meta-Learning of a backbone with a linear head of ``outputs`` units.

    ``inner_steps`` and ``test_inner_steps`` are the numbers of gradient steps on the whole support
    set in training and in evaluation; ``adapts`` selects whether they change ``all`` weights (but
    those that the backbone leaves alone) or only the ``head``. ``inner_lr`` is alpha. With
    ``learn_inner_lr``, alpha becomes a meta-parameter: one scalar for each weight tensor, or, with
    ``"per_weight"``, one for each weight. ``norm_statistics`` applies to training and test.
    """

    accepts_any_ways = False
    norm_statistics_choices = BATCH_STATISTICS

    def __init__(
        self,
        backbone: Backbone,
        outputs: int,
        *,
        adapts: Literal["all", "head"] = "all",
        inner_steps: int = 1,
        test_inner_steps: int = 3,
        inner_lr: float = 0.1,
        learn_inner_lr: Literal[False, True, "per_weight"] = False,
        second_order: bool = True,
        norm_statistics: Literal["support", "support_and_query", "all_queries"] = "support",
    ) -> None:
        super().__init__()
        self.order = 2 if second_order else 1
        self.adapts = adapts
        # A backbone that is not adapted is differentiated only by the outer loss.
        self.network = Classifier(backbone, outputs, self.order if adapts == "all" else 1)
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.second_order = second_order
        self.norm_statistics = norm_statistics
        adapted = [
            weight
            for name, weight in self.network.adapted_parameters()
            if adapts == "all" or name.startswith("head.")
        ]
        self.inner_lrs: nn.Parameter | nn.ParameterList
        if learn_inner_lr == "per_weight":
            self.inner_lrs = nn.ParameterList(torch.full_like(w, inner_lr) for w in adapted)
        else:
            self.inner_lrs = nn.Parameter(
                torch.full((len(adapted),), inner_lr), requires_grad=bool(learn_inner_lr)
            )

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[FastWeights, Tensor]:
        """Run the inner loop and return each task's own weights, with its support images."""
        images, targets = support_x.flatten(1, 2), support_y.flatten(1, 2)
        fast = self.network.adapted_weights(len(targets))
        if self.adapts == "head":
            return self._adapt_head(
                fast, self.network.forward_features(fast, images), targets
            ), images
        return self._inner_loop(partial(self.network.logits, x=images), fast, targets), images

    def predict(self, adapted: tuple[FastWeights, Tensor], query_x: Tensor) -> Tensor:
        """Return the outputs of the queries under each task's own weights."""
        fast, support_x = adapted
        return self.network.classify(fast, support_x, query_x, self.norm_statistics)

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """Adapt and predict, with all images in one pass of the backbone where possible."""
        if self.adapts == "all" or self.norm_statistics != "support":
            return super().forward(support_x, support_y, query_x)
        images, targets = torch.cat((support_x.flatten(1, 2), query_x), 1), support_y.flatten(1, 2)
        fast = self.network.adapted_weights(len(targets))
        features = self.network.forward_features(fast, images, targets.shape[1])
        support, queries = features.tensor_split([targets.shape[1]], dim=1)
        return self.network.of_features(self._adapt_head(fast, support, targets), queries)

    def _adapt_head(self, fast: FastWeights, features: Tensor, targets: Tensor) -> FastWeights:
        """Return the weights with the head adapted by the inner loop.

        ``features`` are the support features [T, S, F].
        """
        head = {name: weight for name, weight in fast.items() if name.startswith("head.")}
        logits = partial(self.network.of_features, features=features)
        return fast | self._inner_loop(logits, head, targets)

    def _inner_loop(
        self, outputs: Callable[[FastWeights], Tensor], fast: FastWeights, targets: Tensor
    ) -> FastWeights:
        steps = self.inner_steps if self.training else self.test_inner_steps
        create_graph = self.second_order and torch.is_grad_enabled()

        def losses(fast: FastWeights) -> Tensor:
            return self.loss(outputs(fast), targets).mean(1)

        return descend(losses, fast, self.inner_lrs, steps, create_graph)


def descend(
    losses: Callable[[FastWeights], Tensor],
    fast: FastWeights,
    rates: Iterable[Tensor],
    steps: int,
    create_graph: bool,
) -> FastWeights:
    """Return each task's weights after gradient steps on the loss of its support set.

    Args:
        losses: Maps weights such as ``fast`` to the loss [T] of each task.
        fast: The initial weights.
        rates: One learning rate for each entry of ``fast``: a scalar, or a tensor of the shape of
            one task's weight.
        steps: Number of gradient steps.
        create_graph: Whether the result can be differentiated through the gradients.
    """
    with torch.enable_grad():
        fast = {name: weight.requires_grad_() for name, weight in fast.items()}
        for _ in range(steps):
            # Tasks have separate weights, so the gradient of the sum is each task's own.
            gradients = torch.autograd.grad(
                losses(fast).sum(), list(fast.values()), create_graph=create_graph
            )
            fast = {
                name: torch.addcmul(weight, rate, gradient, value=-1)
                for (name, weight), rate, gradient in zip(
                    fast.items(), rates, gradients, strict=True
                )
            }
    return fast
