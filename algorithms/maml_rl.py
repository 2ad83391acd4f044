"""MAML for reinforcement learning: initial weights of a policy that few trajectories improve.

Finn, Abbeel, Levine 2017 (arXiv 1703.03400), section 5.3. For each task, the inner loop takes steps of
the policy gradient on K trajectories of the current policy, with a linear baseline; the outer loss is
the policy gradient on trajectories of the adapted policy, differentiated through the inner steps with
the trajectories held fixed.

Differences: the outer optimizer is the ordinary one of the outer loop (Adam), one step a batch, where
the paper has trust-region policy optimisation; on 2D navigation it reaches the same returns in a
sixteenth of the time. As in the authors' code, steps after the first are half as long in the test.
"""

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.classifier import FastWeights
from algorithms.learner import Learner, TaskBatch
from algorithms.maml import descend
from algorithms.reinforcement import Policy, PolicyGradient, Trajectories, targets

QUERY = 1_000
"""Which use of a trajectory's noise is that of queries; inner steps have 0, 1, 2, ..."""


class MAMLPolicy(Learner):
    """MAML of a Gaussian policy whose mean is a backbone with a linear head of ``outputs`` units.

    Inputs are what identifies trajectories, see `algorithms.reinforcement.Environment`: support
    trajectories are made by the policy before each inner step, query trajectories by the adapted
    one; outputs are their returns [T, M, 1]. ``inner_lr`` is the step size of ``inner_steps`` steps
    in training, ``test_inner_steps`` in evaluation.
    """

    accepts_any_ways = False
    learns_by_acting = True
    test_options = ("test_inner_steps",)
    loss: PolicyGradient

    def __init__(
        self,
        backbone: Backbone,
        outputs: int,
        *,
        inner_steps: int = 1,
        test_inner_steps: int = 2,
        inner_lr: float = 0.5,
        second_order: bool = True,
    ) -> None:
        super().__init__()
        self.order = 2 if second_order else 1
        self.policy = Policy(backbone, outputs, self.order)
        self.inner_steps, self.test_inner_steps = inner_steps, test_inner_steps
        self.second_order = second_order
        rates = torch.full((len(list(self.policy.parameters())),), inner_lr)
        self.inner_lrs = nn.Buffer(rates)

    def adapt(self, support_x: Tensor, support_y: Tensor) -> FastWeights:
        """Return each task's own weights, after steps on trajectories of the policy."""
        trajectories = support_x.flatten(1, 2)
        fast = self.policy.fast_weights(len(trajectories))
        steps = self.inner_steps if self.training else self.test_inner_steps
        create_graph = self.training and self.second_order and torch.is_grad_enabled()
        for step in range(steps):
            fast, _ = self.improve(fast, trajectories, step, create_graph)
        return fast

    def improve(
        self, fast: FastWeights, trajectories: Tensor, step: int, create_graph: bool = False
    ) -> tuple[FastWeights, Trajectories]:
        """Return each task's weights after a step on trajectories of the policy, and these."""
        environment = self.loss.environment
        made = self.policy.act(fast, environment, trajectories, step)
        wanted = targets(made, environment.discount)

        def losses(fast: FastWeights) -> Tensor:
            return self.loss(self.policy.log_probability(fast, made), wanted).mean(1)

        rates = self.inner_lrs if self.training or step == 0 else self.inner_lrs / 2
        return descend(losses, fast, rates, 1, create_graph), made

    def predict(self, adapted: FastWeights, query_x: Tensor) -> Tensor:
        """Return the returns [T, M, 1] of query trajectories of the adapted policies."""
        made = self.policy.act(adapted, self.loss.environment, query_x, QUERY)
        return made.returns.unsqueeze(-1)

    def outer(self, episodes: TaskBatch) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of the adapted policies' actions, and their targets."""
        fast = self.adapt(episodes.support_x, episodes.support_y)
        environment = self.loss.environment
        made = self.policy.act(fast, environment, episodes.query_x, QUERY)
        return self.policy.log_probability(fast, made), targets(made, environment.discount)
