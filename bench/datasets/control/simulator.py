"""Processes that simulate environments of Meta-World, on all cores of this machine.

MuJoCo steps one environment at a time and Meta-World holds Python's lock meanwhile, so each core has
a process of its own, which reads calls and writes results until its input ends.
"""

import atexit
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import RunFailedError

Array = NDArray[np.float64]

HAND = 0.05
"""How far from its usual place the hand starts at most, along each axis, in metres."""
GOAL = slice(36, 39)
"""The place of the goal in an observation."""


class Start(NamedTuple):
    """Where an episode starts: two equal ones are equal to the bit.

    ``goal`` is the seed that Meta-World draws the places of goal and objects from; ``seed`` that of
    the place of the hand, and of noise.
    """

    task: str
    goal: int
    seed: int


class Demonstration(NamedTuple):
    """Observations [H, 39] with the goal, the expert's actions [H, 4], and whether it succeeded."""

    observations: Array
    actions: Array
    success: bool


class Simulator:
    """Environments of Meta-World in this process, 23 MB each: as many of a type as run at once."""

    def __init__(self) -> None:
        import metaworld  # late: a second, and it may be missing
        from metaworld.policies import ENV_POLICY_MAP

        self._types = metaworld.env_dict.ALL_V3_ENVIRONMENTS
        self._experts: dict[str, Any] = ENV_POLICY_MAP
        self._made: dict[tuple[str, int], Any] = {}
        self._hands: dict[str, Array] = {}
        self._episodes: list[Any] = []
        self._seen = np.zeros((0, 39))
        self._ended = np.zeros(0, bool)

    def demonstrate(self, tries: Sequence[Start], noise: float, steps: int) -> Demonstration:
        """Return the first success of an expert in these episodes, or else the last failure.

        What is added to the movement of the hand is normal, of standard deviation ``noise``; what is
        recorded is the action that was meant.
        """
        for start in tries:
            env, seen, rng = self._reset(start, 0)
            expert = self._experts[start.task]()
            observations, actions, success = np.zeros((steps, 39)), np.zeros((steps, 4)), False
            for now in range(steps):
                action: Any = np.clip(expert.get_action(seen), -1, 1)
                observations[now], actions[now] = seen, action
                action[:3] += noise * rng.standard_normal(3)
                seen, succeeds = _step(env, action)
                success |= succeeds
            if success:
                break
        return Demonstration(observations, actions, success)

    def begin(self, starts: Sequence[Start]) -> Array:
        """Start an episode in each slot, and return the observations [B, 39]."""
        types = [start.task for start in starts]
        found = [
            self._reset(start, types[:slot].count(start.task)) for slot, start in enumerate(starts)
        ]
        self._episodes = [env for env, _, _ in found]
        self._seen = np.array([seen for _, seen, _ in found])
        self._ended = np.zeros(len(found), bool)
        return self._seen

    def act(self, actions: Array) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
        """Return observations after actions [B, 4], which episodes just succeeded, and all ended ones.

        An episode ends by success, by an action that is NaN or infinite, or by an observation that
        is, or cannot be had, because the simulation has exploded.
        """
        succeeded = np.zeros(len(self._episodes), bool)
        for slot in np.flatnonzero(~self._ended):
            try:
                if not np.isfinite(actions[slot]).all():
                    raise FloatingPointError
                seen, succeeded[slot] = _step(self._episodes[slot], actions[slot])
                if not np.isfinite(seen).all():
                    raise FloatingPointError
            except Exception:  # whatever Meta-World says to a policy is the policy's failure
                self._ended[slot] = True
            else:
                self._seen[slot] = seen
                self._ended[slot] = succeeded[slot]
        return self._seen, succeeded & self._ended, self._ended

    def _reset(self, start: Start, copy: int) -> tuple[Any, Array, np.random.Generator]:
        """Return an environment at the start of an episode, its observation, and what is random."""
        key = start.task, copy
        if key not in self._made:
            env = self._made[key] = self._types[start.task]()
            env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
            self._hands[start.task] = np.array(env.hand_init_pos, float)
        env, rng = self._made[key], np.random.default_rng(start.seed)
        env.seed(start.goal)
        hand = self._hands[start.task] + rng.uniform(-HAND, HAND, 3)
        env.hand_init_pos = np.clip(hand, env.mocap_low, env.mocap_high)
        seen, _ = env.reset()
        seen[GOAL] = env._get_pos_goal()
        return env, seen, rng


def _step(env: Any, action: Array) -> tuple[Array, bool]:
    """Return the observation after an action, with the goal, and whether the task is done."""
    seen, _, _, _, info = env.step(np.clip(action, -1, 1).astype(np.float32))
    seen[GOAL] = env._get_pos_goal()
    return seen, bool(info["success"])


class Remote:
    """A `Simulator` in a process of its own, which ends with this one."""

    def __init__(self) -> None:
        path = os.pathsep.join(each or os.getcwd() for each in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        atexit.register(self.close)

    def call(self, method: str, *args: object) -> None:
        """Begin a call; `result` waits for it. Raises RunFailedError if the process has ended."""
        assert self._process.stdin
        try:
            pickle.dump((method, args), self._process.stdin)
            self._process.stdin.flush()
        except OSError:
            raise self._fault() from None

    def result(self) -> Any:
        """Return the result of the first call that has none yet; raise RunFailedError as `call`."""
        assert self._process.stdout
        try:
            return pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise self._fault() from None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _fault(self) -> RunFailedError:
        for each in remotes():
            each.close()
        remotes.cache_clear()
        return RunFailedError(
            "a process that simulates Meta-World has ended by itself; if it said why, this is in the "
            "output"
        )


@cache
def remotes() -> list[Remote]:
    """Return a process for each core that this one may use, started at the first call."""
    from joblib import cpu_count  # late: nobody else here needs it

    return [Remote() for _ in range(cpu_count())]


def demonstrations(
    episodes: Sequence[Sequence[Start]], noise: float, steps: int
) -> list[Demonstration]:
    """Return a demonstration for each sequence of tries, see `Simulator.demonstrate`."""
    found: list[Demonstration] = []
    simulators = remotes()
    for first in range(0, len(episodes), len(simulators)):
        some = episodes[first : first + len(simulators)]
        for simulator, tries in zip(simulators, some, strict=False):
            simulator.call("demonstrate", tries, noise, steps)
        found += [simulator.result() for simulator, _ in zip(simulators, some, strict=False)]
    return found


class Episodes:
    """Episodes that are stepped together, evenly spread over the processes: one set at a time."""

    def __init__(self, starts: Sequence[Start]) -> None:
        every = remotes()
        bounds = np.linspace(0, len(starts), len(every) + 1).round().astype(int)
        parts = [slice(*pair) for pair in pairwise(bounds.tolist())]
        self._shares = [
            (each, part) for each, part in zip(every, parts, strict=True) if part.start < part.stop
        ]
        for simulator, part in self._shares:
            simulator.call("begin", list(starts[part]))
        self.observations: Array = np.concatenate([each.result() for each, _ in self._shares])
        self.success = np.zeros(len(starts), bool)
        self.ended = np.zeros(len(starts), bool)

    def act(self, actions: Array) -> None:
        """Carry out actions [B, 4]; observations [B, 39], success [B] and ends [B] are then new."""
        for simulator, part in self._shares:
            simulator.call("act", actions[part])
        for simulator, part in self._shares:
            self.observations[part], succeeded, self.ended[part] = simulator.result()
            self.success[part] |= succeeded


def main() -> None:
    """Answer the calls of a `Remote` on standard input until there are no more."""
    import mujoco

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that calls
    warnings.simplefilter("ignore")  # the experts warn of their own actions
    mujoco.set_mju_user_warning(lambda text: None)  # else written to a file in this folder
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what others print is no result
    simulator = Simulator()
    while True:
        try:
            method, args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(getattr(simulator, method)(*args), results)
        results.flush()
