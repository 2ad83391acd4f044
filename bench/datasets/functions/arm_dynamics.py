"""System identification: predict how an arm with a hidden payload moves, from a few of its movements.

A task is a two-link arm, see `bench.datasets.control.arm`, with a payload uniform in [0, 2] kg. An
example is a step of 50 ms from a random state under random torques: inputs are an observation and the
torques, the target is the change of both angular velocities.
"""

import math

import torch

from bench.core.philox import key_of
from bench.datasets.control import arm
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset, Pool
from bench.tasks.regression.domain import Regression

ARMS = {"train": 5_000, "val": 500, "test": 1_000}
STEPS = 64
LARGEST_PAYLOAD = 2.0
FASTEST = 5.0
"""Angular velocity in radians per second, either way."""


def prepare(folders: DataDirs) -> Dataset:
    """Return the arms; nothing is read or written."""
    splits = {split: movements(split, count) for split, count in ARMS.items()}
    return Dataset.of("arm_dynamics", splits, domain=Regression(), examples="steps")


def movements(split: str, count: int) -> Pool:
    """Return the arms of a split: inputs float32 [count * STEPS, 8], targets [count * STEPS, 2]."""
    number = torch.arange(count)
    payload = (
        LARGEST_PAYLOAD * arm.uniform(key_of("arm dynamics", "payload", split), number, 1)[:, 0]
    )
    state, action = (
        2 * arm.uniform(key_of("arm dynamics", what, split), number, 4, STEPS) - 1
        for what in ("state", "action")
    )
    before = arm.State(math.pi * state[..., :2], FASTEST * state[..., 2:])
    after = arm.step(before, arm.TORQUE * action[..., :2], payload)
    inputs = torch.cat((arm.observe(before), action[..., :2]), -1)
    return Pool(
        inputs.flatten(0, 1),
        torch.arange(count + 1) * STEPS,
        tuple(f"{split} {each}" for each in range(count)),
        targets=(after.velocities - before.velocities).flatten(0, 1),
    )
