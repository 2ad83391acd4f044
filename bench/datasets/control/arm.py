"""A two-link arm that has to bring its tip to a place that only demonstrations tell.

A task is a hidden goal within reach and a hidden payload at the tip. The arm moves in a horizontal
plane under two torques; an observation is the cosines, sines and (scaled) velocities of its two
angles. The demonstrator knows goal and payload: a computed torque towards the angles of the goal. It
acts with noise, and what is recorded at each step is what it wanted to do. A policy has succeeded if
its tip is, on average over the last ten steps, nearer to the goal than the tolerance.

All tasks and rollouts are simulated at once, in torch, on the device of the policy; everything is a
function of numbers and names (`bench.core.philox`). Starts and goals are such that the angles of the
demonstrator never wrap around, where it would be discontinuous.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bench.core.errors import UserError
from bench.core.philox import key_of, philox
from bench.datasets.io.cache import DataDirs
from bench.tasks.base import Tasks
from bench.tasks.control.domain import Imitation, Policy
from bench.tasks.pool import Dataset, Pool

TASKS = {"train": 1_000, "val": 200, "test": 1_000}
DEMONSTRATIONS = 12
STEPS, LAST = 60, 10
SECONDS, SUBSTEPS = 0.05, 5
"""Duration of a step, and the parts that it is integrated in."""
LENGTH, MASS, DAMPING = 0.5, 1.0, 0.1
"""Of each link: metres, kilograms (at its end), newton metre seconds."""
USUAL_TOLERANCE = 0.02
TORQUE = 8.0
"""Largest torque of a joint, in newton metres."""
STIFFNESS, BRAKE = 16.0, 8.0
"""Of the demonstrator: angular acceleration per angle, and per angular velocity."""
ACTION_SCALE, VELOCITY_SCALE = 4.0, 5.0
"""Torques and velocities that count as 1 in actions and observations."""


class State(NamedTuple):
    """Angles and angular velocities of the joints of B arms of T tasks, both [T, B, 2]."""

    angles: Tensor
    velocities: Tensor


def prepare(folders: DataDirs, *, tolerance: float, noise: float, payload: float) -> Dataset:
    """Return the arm's tasks; nothing is read or written.

    ``tolerance`` (metres) is how near the tip has to come, ``noise`` (newton metres) the standard
    deviation of what is added to a demonstrator's torques, and payloads are 0 to ``payload``
    (kilograms). Raises UserError if one is negative.
    """
    given = {"tolerance": tolerance, "noise": noise, "payload": payload}
    if wrong := [name for name, value in given.items() if not 0 <= value < math.inf]:
        raise UserError(f"dataset.{wrong[0]}={given[wrong[0]]} is no positive number; give one")
    splits = {split: tasks(split, count, noise, payload) for split, count in TASKS.items()}
    name = "arm" if tolerance == USUAL_TOLERANCE else f"arm-{1000 * tolerance:g}mm"
    domain = Imitation(Arm(tolerance))
    return Dataset.of(name, splits, domain=domain, examples="demonstrations")


class Arm:
    """The arm as an environment; rollouts succeed within ``tolerance`` metres of the goal."""

    rollouts_per_task = 5

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def rollouts(self, policy: Policy, tasks: Tasks) -> dict[str, Tensor]:
        """Return the ``score``, the share of successful rollouts (%), and the ``distance`` (mm)."""
        assert tasks.hidden is not None
        hidden = tasks.hidden.float()
        key = key_of("arm", "rollouts")
        state = start(key, tasks.numbers, self.rollouts_per_task)
        payload = hidden[:, 2:3]
        distances = []
        for _ in range(STEPS):
            torques = ACTION_SCALE * policy(observe(state)).nan_to_num(0, 0, 0)
            state = step(state, torques, payload)
            distances.append((tip(state.angles) - hidden[:, None, :2]).norm(dim=-1))
        distance = torch.stack(distances[-LAST:]).mean(0)
        success = (distance < self.tolerance).double().mean(1)
        return {"score": 100 * success, "distance": 1000 * distance.double().mean(1)}


def tasks(split: str, count: int, noise: float, payload: float) -> Pool:
    """Return the tasks of a split with their demonstrations.

    Inputs are float32 [count * DEMONSTRATIONS, STEPS, 6], targets [..., STEPS, 2], and the hidden
    parameters [count, 3] are the goal's place (metres) and the payload (kilograms).
    """
    number = torch.arange(count)
    drawn = uniform(key_of("arm", "tasks", split), number, 3)[:, 0]
    radius = 0.25 + 0.65 * drawn[:, 0]
    direction = math.pi * (drawn[:, 1] - 0.5)
    goal = radius[:, None] * torch.stack((direction.cos(), direction.sin()), -1)
    mass = payload * drawn[:, 2:]
    aim = inverse(radius, direction)[:, None]
    state = start(key_of("arm", "demonstrations", split), number, DEMONSTRATIONS)
    disturbance = noise * normal(key_of("arm", "noise", split), number, DEMONSTRATIONS)
    inputs, targets = [], []
    for now in range(STEPS):
        torques = demonstrate(state, aim, mass)
        inputs.append(observe(state))
        targets.append(torques / ACTION_SCALE)
        state = step(state, torques + disturbance[:, :, now], mass)
    return Pool(
        torch.stack(inputs, 2).flatten(0, 1),
        torch.arange(count + 1) * DEMONSTRATIONS,
        tuple(f"{split} {each}" for each in range(count)),
        targets=torch.stack(targets, 2).flatten(0, 1),
        hidden=torch.cat((goal, mass), 1),
    )


def start(key: tuple[int, int], number: Tensor, count: int) -> State:
    """Return ``count`` arms at rest for each of the numbered tasks."""
    drawn = uniform(key, number, 2, count)
    angles = torch.stack((math.pi * (drawn[..., 0] - 0.75), 0.3 + 2.4 * drawn[..., 1]), -1)
    return State(angles, torch.zeros_like(angles))


def observe(state: State) -> Tensor:
    """Return observations [T, B, 6]."""
    angles, velocities = state
    return torch.cat((angles.cos(), angles.sin(), velocities / VELOCITY_SCALE), -1)


def step(state: State, torques: Tensor, payload: Tensor) -> State:
    """Return the arms after a step under torques [T, B, 2] with payloads [T, 1] at their tips."""
    torques = torques.clamp(-TORQUE, TORQUE)
    angles, velocities = state
    for _ in range(SUBSTEPS):
        a, b, c, force = mechanics(State(angles, velocities), payload)
        free = torques - force
        one, two = free.unbind(-1)
        acceleration = torch.stack((c * one - b * two, a * two - b * one), -1)
        velocities = velocities + SECONDS / SUBSTEPS * acceleration / (a * c - b * b).unsqueeze(-1)
        angles = angles + SECONDS / SUBSTEPS * velocities
    return State(angles, velocities)


def mechanics(state: State, payload: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the mass matrix ((a, b), (b, c)), each [T, B], and the forces of motion [T, B, 2].

    Masses are points at the ends of the links; forces are centrifugal, of Coriolis and of damping.
    """
    elbow, (one, two) = state.angles[..., 1], state.velocities.unbind(-1)
    outer = MASS + payload
    inertia = outer * LENGTH**2
    coupling = inertia * elbow.cos()
    a = (MASS + outer) * LENGTH**2 + inertia + 2 * coupling
    h = inertia * elbow.sin()
    force = torch.stack((-h * (2 * one * two + two * two), h * one * one), -1)
    return a, inertia + coupling, inertia.expand_as(a), force + DAMPING * state.velocities


def demonstrate(state: State, aim: Tensor, payload: Tensor) -> Tensor:
    """Return the demonstrator's torques towards the angles ``aim`` [T, 1, 2]."""
    wanted = STIFFNESS * (aim - state.angles) - BRAKE * state.velocities
    a, b, c, force = mechanics(state, payload)
    one, two = wanted.unbind(-1)
    torques = torch.stack((a * one + b * two, b * one + c * two), -1) + force
    return torques.clamp(-TORQUE, TORQUE)


def tip(angles: Tensor) -> Tensor:
    """Return the place of the tip in metres, [..., 2]."""
    first, second = angles[..., 0], angles.sum(-1)
    return LENGTH * torch.stack((first.cos() + second.cos(), first.sin() + second.sin()), -1)


def inverse(radius: Tensor, direction: Tensor) -> Tensor:
    """Return the angles [T, 2], elbow to the left, at which the tip is at a place."""
    elbow = ((radius**2 - 2 * LENGTH**2) / (2 * LENGTH**2)).clamp(-1, 1).acos()
    shoulder = direction - torch.atan2(elbow.sin(), 1 + elbow.cos())
    return torch.stack((shoulder, elbow), -1)


def uniform(key: tuple[int, int], number: Tensor, columns: int, rows: int = 1) -> Tensor:
    """Return float32 [T, rows, columns], uniform in [0, 1), for T numbers and at most 4 columns."""
    row = torch.arange(rows, device=number.device)
    zero = torch.zeros_like(row)
    words = philox(key, (number[:, None] & 0xFFFFFFFF, number[:, None] >> 32, row, zero))
    return (words[..., :columns].double() / 2**32).float()


def normal(key: tuple[int, int], number: Tensor, rows: int) -> Tensor:
    """Return normal numbers, float32 [T, rows, STEPS, 2] (Box, Muller 1958)."""
    row = torch.arange(rows, device=number.device)[:, None]
    now = torch.arange(STEPS, device=number.device)
    words = philox(key, (number[:, None, None] & 0xFFFFFFFF, number[:, None, None] >> 32, row, now))
    one, two = ((words[..., each].double() + 0.5) / 2**32 for each in (0, 1))
    angle, radius = 2 * math.pi * two, (-2 * one.log()).sqrt()
    return torch.stack((radius * angle.cos(), radius * angle.sin()), -1).float()
