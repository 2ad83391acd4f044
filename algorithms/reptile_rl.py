"""Reptile for reinforcement learning: move the policy towards those reached on each task.

Nichol, Achiam, Schulman 2018 (arXiv 1803.02999) with the inner loop of `algorithms.maml_rl`: steps of
the policy gradient, each on new trajectories. The paper has no experiment of reinforcement learning.
"""

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.learner import TaskBatch, add_gradient
from algorithms.maml_rl import MAMLPolicy


class ReptilePolicy(MAMLPolicy):
    """Reptile of a Gaussian policy; see `MAMLPolicy`, of which it has the options but one.

    ``.grad`` is theta - mean_i(theta_i), which plain SGD takes with the step size of the outer loop.
    """

    requires_plain_sgd = True
    uses_query_loss = False

    def __init__(
        self,
        backbone: Backbone,
        outputs: int,
        *,
        inner_steps: int = 5,
        test_inner_steps: int = 2,
        inner_lr: float = 0.5,
    ) -> None:
        super().__init__(
            backbone,
            outputs,
            inner_steps=inner_steps,
            test_inner_steps=test_inner_steps,
            inner_lr=inner_lr,
            second_order=False,
        )

    def meta_gradient(self, episodes: TaskBatch) -> dict[str, Tensor]:
        """Add theta - mean_i(theta_i) to ``.grad``; metrics are those before the last inner step."""
        tasks, scores = len(episodes.support_x), []
        for chunk in self.chunks(episodes):
            trajectories = chunk.support_x.flatten(1, 2)
            fast = self.policy.fast_weights(len(trajectories))
            for step in range(self.inner_steps):
                fast, made = self.improve(fast, trajectories, step)
                fast = {name: weight.detach() for name, weight in fast.items()}
            for name, parameter in self.policy.named_parameters():
                add_gradient(parameter, (parameter.detach() - fast[name]).sum(0) / tasks)
            scores.append(made.rewards.mean((1, 2)))
        score = torch.cat(scores).mean()
        return {"loss": -score, "score": score}
