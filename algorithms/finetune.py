"""Fine-tuning: one network for all tasks, adapted to each test task by an ordinary optimizer.

It is trained as `algorithms.pooled` is, without an inner loop. In a test task, all weights take steps
of Adam (Kingma, Ba 2015) on the whole support set. With many examples a task it often equals
meta-learning, which every comparison should show.
"""

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.classifier import FastWeights
from algorithms.pooled import Pooled


class FineTune(Pooled):
    """A pooled network that takes ``test_inner_steps`` steps of Adam on the support set of a test task.

    ``inner_lr`` is their step size.
    """

    test_options = ("test_inner_steps", "inner_lr")

    def __init__(
        self,
        backbone: Backbone,
        outputs: int,
        *,
        test_inner_steps: int = 50,
        inner_lr: float = 0.001,
    ) -> None:
        super().__init__(backbone, outputs)
        self.test_inner_steps = test_inner_steps
        self.inner_lr = inner_lr

    def adapt(  # type: ignore[override]
        self, support_x: Tensor, support_y: Tensor
    ) -> FastWeights:
        """Return each task's own weights."""
        x, targets = support_x.flatten(1, 2), support_y.flatten(1, 2)
        fast = {
            name: weight.detach().clone().requires_grad_()
            for name, weight in self.network.fast_weights(len(x)).items()
        }
        # Adam works elementwise, so one instance serves all tasks.
        optimizer = torch.optim.Adam(list(fast.values()), lr=self.inner_lr)
        with torch.enable_grad():
            for _ in range(self.test_inner_steps):
                optimizer.zero_grad()
                self.loss(self.network.logits(fast, x), targets).mean(1).sum().backward()
                optimizer.step()
        return {name: weight.detach() for name, weight in fast.items()}

    def predict(  # type: ignore[override]
        self, adapted: FastWeights, query_x: Tensor
    ) -> Tensor:
        """Return the outputs of the queries under each task's own weights."""
        return self.network.logits(adapted, query_x)
