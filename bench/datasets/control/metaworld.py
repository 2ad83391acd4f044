"""Meta-World v3: a robot arm that opens drawers, pushes, reaches, as its scripted experts show.

After Yu et al. 2019 ("Meta-World", arXiv 1910.10897). ``ml1`` has one type of task: a task is where
goal and objects are, and all of its demonstrations and rollouts share that, but not where the hand
starts. ``ml10`` has ten types to train on and five others to test on: a task is a type, each
demonstration is of another goal, and so is each rollout. Success is the environment's own signal at
any step of a rollout.

Places are drawn by Meta-World from seeds of ours, see `bench.datasets.control.simulator`; what is
random is a function of names and numbers, and of Meta-World's and MuJoCo's versions, which are
therefore in the digest.
"""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.core.errors import UserError
from bench.core.philox import key_of
from bench.datasets.control import simulator
from bench.datasets.control.simulator import GOAL, Start
from bench.datasets.io.cache import DataDirs, cached
from bench.tasks.base import Tasks
from bench.tasks.control.domain import Imitation, Policy
from bench.tasks.pool import Dataset, Pool

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
GOALS = {"train": 50, "val": 20, "test": 50}
"""Tasks of ``ml1``."""
TRAINED = (
    "reach-v3",
    "push-v3",
    "pick-place-v3",
    "door-open-v3",
    "drawer-close-v3",
    "button-press-topdown-v3",
    "peg-insert-side-v3",
    "window-open-v3",
    "sweep-v3",
    "basketball-v3",
)
TESTED = ("drawer-open-v3", "door-close-v3", "shelf-place-v3", "sweep-into-v3", "lever-pull-v3")
"""Tasks of ``ml10``, which are types; those of validation are the ones that are trained on."""
DEMONSTRATIONS = {
    "ml1": {"train": 6, "val": 6, "test": 6},
    "ml10": {"train": 60, "val": 6, "test": 40},
}
"""Of each task."""
STEPS, ROLLOUT_STEPS = 150, 200
"""Of a demonstration, and at most of a rollout."""
TRIES = 10
"""Episodes of a demonstrator at most, until one succeeds."""
FAR = 5.0
"""Standard deviations that observations are cut at."""
STILL = 1e-4
"""Standard deviation of what counts as constant."""


class Task(NamedTuple):
    """A task: a type, the seed of its places if it has any of its own, and its demonstrations.

    Of a demonstration there are `TRIES` starts.
    """

    name: str
    type: str
    goal: int | None
    shown: list[list[Start]]


class Scale(NamedTuple):
    """Means and standard deviations [O] of the observations in the demonstrations of training."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, observations: Tensor) -> "Scale":
        """Return the scale of observations [..., O]."""
        rows = observations.flatten(0, -2).double()
        deviation = rows.std(0)
        return cls(rows.mean(0), deviation.where(deviation > STILL, math.inf))

    def __call__(self, observations: Tensor) -> Tensor:
        """Return observations [..., O or more] as learners see them, float32 [..., O]."""
        seen = observations[..., : len(self.mean)].double()
        return ((seen - self.mean) / self.deviation).clamp(-FAR, FAR).float()


def prepare(
    folders: DataDirs,
    *,
    benchmark: Literal["ml1", "ml10"],
    task: str,
    noise: float,
    sees_goal: bool | None,
) -> Dataset:
    """Return the tasks of a benchmark with their demonstrations, which are made once.

    ``task`` is the type of all tasks of ``ml1``, ``noise`` the standard deviation of what is added to
    a demonstrator's movements (1 is the fastest one), and ``sees_goal`` whether the place of the goal
    is part of observations: None means in ``ml10`` alone. Raises UserError if a value is wrong, or
    Meta-World is not installed.
    """
    if not find_spec("metaworld"):
        raise UserError(
            "metaworld is not installed: pip install '.[control]' in a clone of this project, with "
            "Python 3.13 or older"
        )
    if not 0 <= noise < math.inf:
        raise UserError(f"dataset.noise={noise} is no positive number; give one")
    versions = f"metaworld {version('metaworld')}, mujoco {version('mujoco')}"
    name = f"metaworld-{task if benchmark == 'ml1' else benchmark}"
    planned = {split: tasks_of(benchmark, task, split) for split in SPLITS}
    recipe = repr((versions, noise, STEPS, planned)).encode()
    recipe += Path(simulator.__file__).read_bytes()

    def make() -> Dataset:
        if benchmark == "ml1":
            check_type(task)
        return Dataset.of(name, {split: record(planned[split], noise) for split in SPLITS})

    recorded = cached(folders.cache, name, recipe, make).splits
    is_seen = benchmark == "ml10" if sees_goal is None else sees_goal
    scale = Scale.of(recorded["train"].inputs[..., : GOAL.stop if is_seen else GOAL.start])
    types = (task,) if benchmark == "ml1" else TRAINED + TESTED
    splits = {
        split: replace(
            pool,
            inputs=scale(pool.inputs),
            targets=pool.inputs[..., GOAL.stop :].contiguous(),
            hidden=hidden_of(planned[split], types),
        )
        for split, pool in recorded.items()
    }
    dataset = Dataset.of(
        name, splits, domain=Imitated(MetaWorld(types, scale)), examples="demonstrations"
    )
    digest = hashlib.sha256(f"{dataset.digest} {versions}".encode()).hexdigest()
    return replace(dataset, digest=digest)


def check_type(task: str) -> None:
    """Raise UserError if there is no such type of task."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS  # late: a second

    if task not in ALL_V3_ENVIRONMENTS:
        raise UserError(
            f"dataset.task={task} is unknown; choose one of {', '.join(sorted(ALL_V3_ENVIRONMENTS))}"
        )


def tasks_of(benchmark: str, task: str, split: str) -> list[Task]:
    """Return the tasks of a split, and where their demonstrations start."""
    kinds: list[tuple[str, str, int | None]]
    if benchmark == "ml1":
        names = [f"{task} {split} {number}" for number in range(GOALS[split])]
        kinds = [(name, task, key_of("metaworld", name)[0]) for name in names]
    else:
        types = TESTED if split == "test" else TRAINED
        kinds = [(f"{each} {split}", each, None) for each in types]
    return [
        Task(
            *kind,
            [
                [start(*kind[1:], kind[0], number, attempt) for attempt in range(TRIES)]
                for number in range(DEMONSTRATIONS[benchmark][split])
            ],
        )
        for kind in kinds
    ]


def start(task: str, goal: int | None, *axes: object) -> Start:
    """Return where an episode starts, with places of its own if ``goal`` is None."""
    places, hand = key_of("metaworld", task, *axes)
    return Start(task, places if goal is None else goal, hand)


def hidden_of(tasks: Sequence[Task], types: Sequence[str]) -> Tensor:
    """Return the number of its type and the seed of its places, -1 if it has none, of each task."""
    return torch.tensor(
        [(types.index(each.type), -1 if each.goal is None else each.goal) for each in tasks],
        dtype=torch.float64,
    )


def record(tasks: Sequence[Task], noise: float) -> Pool:
    """Return demonstrations of tasks, observations and actions in one: float32 [M, STEPS, 43]."""
    wanted = [tries for each in tasks for tries in each.shown]
    found = simulator.demonstrations(wanted, noise, STEPS)
    failed = sum(not each.success for each in found)
    log.info("%d of %d demonstrations fail, in all tries", failed, len(found))
    rows = [np.concatenate((each.observations, each.actions), 1) for each in found]
    sizes = torch.tensor([0] + [len(each.shown) for each in tasks])
    inputs = torch.from_numpy(np.stack(rows)).float()
    return Pool(inputs, sizes.cumsum(0), tuple(each.name for each in tasks))


class Imitated(Imitation):
    """Imitation with rollouts that take minutes, and are done once."""

    probes_runs = False


class MetaWorld:
    """Meta-World as an environment; a task is rolled out once."""

    def __init__(self, types: Sequence[str], scale: Scale) -> None:
        self.types = types
        self.scale = scale

    def rollouts(self, policy: Policy, tasks: Tasks) -> dict[str, Tensor]:
        """Return the ``score`` of each task: 100 if the policy succeeds at any step, else 0.

        The rollout of a policy that gives NaN or infinity ends there, as a failure.
        """
        assert tasks.hidden is not None
        starts = [
            start(self.types[int(number)], None if goal < 0 else int(goal), "rollout", task)
            for task, (number, goal) in zip(
                tasks.numbers.tolist(), tasks.hidden.tolist(), strict=True
            )
        ]
        episodes = simulator.Episodes(starts)
        for _ in range(ROLLOUT_STEPS):
            seen = self.scale(torch.from_numpy(episodes.observations))
            actions = policy(seen[:, None].to(tasks.numbers.device))[:, 0]
            episodes.act(actions.cpu().double().numpy())
            if episodes.ended.all():
                break
        return {"score": 100 * torch.from_numpy(episodes.success).double()}
