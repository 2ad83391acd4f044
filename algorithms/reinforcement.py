"""Policies that learn from their own trajectories: rollouts, advantages and the policy gradient.

A policy is Gaussian: its mean is the output of a network, and the logarithm of its standard deviation is
a parameter. Trajectories of all tasks are made at once; starts and noise are a function of what
identifies a trajectory (`Environment`), so that the same ones can be made at any time.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.classifier import Classifier, FastWeights
from algorithms.losses import Loss
from algorithms.nn.functional import with_tensors
from algorithms.solvers.ridge import ridge

LEAST_LOG_STD = math.log(1e-6)
BASELINE_RIDGE = 1e-5
"""Regularisation of the baseline's weights (that of rllab, which MAML's code uses)."""


class Environment(Protocol):
    """Where policies act, all trajectories side by side.

    What identifies a trajectory is given by ``trajectories`` [T, B, P + 1]: the P parameters of its
    task, which the policy may not see, and its number.
    """

    horizon: int
    observations: int
    actions: int
    discount: float

    def reset(self, trajectories: Tensor) -> Any:
        """Return the state that trajectories start from."""

    def observe(self, state: Any) -> Tensor:
        """Return observations [T, B, O]."""

    def step(self, state: Any, actions: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Return the state after actions [T, B, A], rewards [T, B], and what goes on [T, B], bool."""

    def noise(self, trajectories: Tensor, use: int) -> Tensor:
        """Return normal numbers [T, B, H, A], others for each ``use`` of the same trajectories."""


class Trajectories(NamedTuple):
    """Steps of trajectories; ``lives`` says which of them took place."""

    observations: Tensor  # [T, B, H, O]
    actions: Tensor  # [T, B, H, A]
    rewards: Tensor  # [T, B, H]
    lives: Tensor  # [T, B, H], 0 or 1

    @property
    def returns(self) -> Tensor:
        """The sum of the rewards of each trajectory, [T, B]."""
        return self.rewards.sum(-1)


class PolicyGradient(Loss):
    """The policy gradient, as a loss of log-probabilities [T, S] of actions.

    Targets [T, S, 2] are the advantage of each action, 0 where none took place, and its reward. The
    value of the loss is minus the mean advantage; its gradient is that of REINFORCE (Williams 1992).
    The score is the mean reward of an action.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each action, through the ratio of its probability to itself."""
        return -(outputs - outputs.detach()).exp() * targets[..., 0]

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean reward of each task, [T]."""
        return targets[..., 1].mean(1)


class Policy(nn.Module):
    """A Gaussian policy on a backbone: a linear head for the mean of ``actions`` dimensions."""

    def __init__(self, backbone: Backbone, actions: int, order: int = 1) -> None:
        super().__init__()
        self.network = Classifier(backbone, actions, order)
        with torch.no_grad():  # at first, all policies of a seed act alike
            self.network.head.weight.mul_(0.1)
            self.network.head.bias.zero_()
        self.log_std = nn.Parameter(torch.zeros(actions))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return means [T, B, A] and the logarithms of standard deviations, [T, 1, A] or [A]."""
        log_std = self.log_std if self.log_std.ndim == 1 else self.log_std[:, None]
        return self.network(observations), log_std.clamp(min=LEAST_LOG_STD)

    def fast_weights(self, tasks: int) -> FastWeights:
        """Return the parameters expanded to all tasks."""
        return {name: p.expand(tasks, *p.shape) for name, p in self.named_parameters()}

    def log_probability(self, fast: FastWeights, made: Trajectories) -> Tensor:
        """Return the log-probability [T, B*H] of actions under each task's weights, less a constant."""
        mean, log_std = with_tensors(self, fast)(made.observations.flatten(1, 2))
        away = (made.actions.flatten(1, 2) - mean) / log_std.exp()
        result: Tensor = (-away.square() / 2 - log_std).sum(-1)
        return result

    @torch.no_grad()
    def act(
        self, fast: FastWeights, environment: Environment, trajectories: Tensor, use: int
    ) -> Trajectories:
        """Return the trajectories of the policy with each task's weights."""
        policy: Callable[[Tensor], tuple[Tensor, Tensor]] = with_tensors(self, fast)
        state, steps = environment.reset(trajectories), []
        noise = environment.noise(trajectories, use)
        lives = torch.ones_like(noise[:, :, 0, 0])
        for now in range(environment.horizon):
            observations = environment.observe(state)
            mean, log_std = policy(observations)
            actions = mean + log_std.exp() * noise[:, :, now]
            state, rewards, goes_on = environment.step(state, actions)
            steps.append((observations, actions, rewards * lives, lives))
            lives = lives * goes_on
        return Trajectories(*(torch.stack(each, 2) for each in zip(*steps, strict=True)))


def targets(made: Trajectories, discount: float) -> Tensor:
    """Return the targets [T, B*H, 2] of `PolicyGradient` for trajectories."""
    advantage = advantages(made, discount) * made.lives
    share = made.lives.mean((1, 2), keepdim=True)
    return torch.stack((advantage / share, made.rewards), -1).flatten(1, 2)


def advantages(made: Trajectories, discount: float) -> Tensor:
    """Return the advantage [T, B, H] of each action, with mean 0 and deviation 1 in each task.

    It is the discounted return from there on, less a baseline: a ridge regression of those returns on
    observations, their squares, and powers of time (Duan et al. 2016), fitted to each task.
    """
    lives = made.lives
    to_go, returns = torch.zeros_like(made.rewards[..., 0]), []
    for rewards in reversed(made.rewards.unbind(-1)):
        to_go = rewards + discount * to_go
        returns.append(to_go)
    returned = torch.stack(returns[::-1], -1) * lives
    time = (torch.arange(lives.shape[-1], device=lives.device) / 100).expand_as(lives)
    powers = torch.stack([time**power for power in range(4)], -1)
    seen = made.observations
    features = (torch.cat((seen, seen**2, powers), -1) * lives.unsqueeze(-1)).flatten(1, 2)
    wanted = returned.flatten(1, 2).unsqueeze(-1)
    baseline = (features @ ridge(features, wanted, BASELINE_RIDGE)).view_as(returned)
    left, count = (returned - baseline) * lives, lives.sum((1, 2), keepdim=True)
    mean = left.sum((1, 2), keepdim=True) / count
    centred = (left - mean) * lives
    deviation = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
    return centred / (deviation + 1e-8)
