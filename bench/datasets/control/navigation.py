"""Two-dimensional navigation: MAML's first experiment of reinforcement learning.

Finn, Abbeel, Levine 2017 (arXiv 1703.03400): a point starts at the origin and has to reach a goal that
is uniform in [-0.5, 0.5]^2 and that it cannot see. An action moves it by at most 0.1 along each axis,
the reward is minus its distance to the goal, and an episode ends after 100 steps, or within 0.01 of
the goal along both axes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bench.core.philox import key_of, philox
from bench.datasets.io.cache import DataDirs
from bench.tasks.control.reinforcement import Reinforcement
from bench.tasks.pool import Dataset, Pool

GOALS = {"train": 2_000, "val": 200, "test": 1_000}
TRAJECTORIES = 100
"""Trajectories that each task has; an episode takes some of them."""
LARGEST_STEP, NEAR, FARTHEST = 0.1, 0.01, 0.5


class State(NamedTuple):
    """Places and goals of B points of T tasks, both [T, B, 2]."""

    places: Tensor
    goals: Tensor


def prepare(folders: DataDirs, *, sees_goal: bool) -> Dataset:
    """Return the navigation tasks; nothing is read or written.

    With ``sees_goal``, an observation includes the goal: the oracle, which no learner exceeds.
    """
    splits = {split: tasks(split, count) for split, count in GOALS.items()}
    name = "navigation-oracle" if sees_goal else "navigation"
    domain = Reinforcement(Navigation(sees_goal))
    return Dataset.of(name, splits, domain=domain, examples="trajectories")


class Navigation:
    """The plane as an environment: trajectories are identified by [goal x, goal y, number]."""

    horizon = 100
    actions = 2
    discount = 0.99

    def __init__(self, sees_goal: bool = False) -> None:
        self.sees_goal = sees_goal
        self.observations = 4 if sees_goal else 2

    def reset(self, trajectories: Tensor) -> State:
        """Return points at the origin."""
        goals = trajectories[..., :2]
        return State(torch.zeros_like(goals), goals)

    def observe(self, state: State) -> Tensor:
        """Return the places, with the goals for the oracle."""
        return torch.cat(state, -1) if self.sees_goal else state.places

    def step(self, state: State, actions: Tensor) -> tuple[State, Tensor, Tensor]:
        """Return the points after a step, minus their distances, and which have not arrived."""
        places = state.places + LARGEST_STEP * actions.clamp(-1, 1)
        away = places - state.goals
        return State(places, state.goals), -away.norm(dim=-1), (away.abs() >= NEAR).any(-1)

    def noise(self, trajectories: Tensor, use: int) -> Tensor:
        """Return normal numbers [T, B, H, 2] of each trajectory and use (Box, Muller 1958)."""
        number = trajectories[..., 2].long().unsqueeze(-1)
        now = torch.arange(self.horizon, device=number.device)
        zero = torch.zeros_like(now)
        words = philox(key_of("navigation", "noise"), (number, zero + use, now, zero))
        one, two = ((words[..., each].double() + 0.5) / 2**32 for each in (0, 1))
        angle, radius = 2 * math.pi * two, (-2 * one.log()).sqrt()
        return torch.stack((radius * angle.cos(), radius * angle.sin()), -1).float()


def tasks(split: str, count: int) -> Pool:
    """Return the goals of a split: rows [goal x, goal y, number], float32, a number each trajectory."""
    number, zero = torch.arange(count), torch.zeros(count, dtype=torch.int64)
    words = philox(key_of("navigation", "goals", split), (number, zero, zero, zero))
    goals = ((words[:, :2].double() / 2**32 - 0.5) * 2 * FARTHEST).float()
    goals = goals.repeat_interleave(TRAJECTORIES, 0)
    first = sum(GOALS[each] for each in list(GOALS)[: list(GOALS).index(split)]) * TRAJECTORIES
    numbers = first + torch.arange(len(goals))
    return Pool(
        torch.cat((goals, numbers.float().unsqueeze(1)), 1),
        torch.arange(count + 1) * TRAJECTORIES,
        tuple(f"{split} {each}" for each in range(count)),
    )
