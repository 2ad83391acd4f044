"""A sweep whose cells run in other processes, which end with it: those of joblib and of Ray."""

import os
import sys
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bench.interrupt import RESUMABLE, listening, work_for
from bench.mistake import Mistake
from bench.world import here

LAUNCHERS = ("JoblibLauncher", "RayLauncher")
"""Other launchers, such as submitit's, start what goes on without the sweep."""

_until_dismissed = ExitStack()

_leading = False
"""Whether this process is that of the sweep, and not a worker."""


class Died(Mistake):
    """A worker ended before its cell did."""

    status = RESUMABLE


def prepare(hydra: DictConfig) -> Path | None:
    """Let a first signal ask the workers of a sweep to save and end, and a second one wait for nothing.

    Gives the file that asks them, None where the launcher has no such workers. Raises Mistake within
    torchrun, whose processes are those that there are.
    """
    if here().size > 1 and not hydra.launcher._target_.endswith("BasicLauncher"):
        raise Mistake("torchrun runs cell after cell: leave out torchrun, or launcher=...")
    if not hydra.launcher._target_.endswith(LAUNCHERS):
        return None
    if hydra.launcher._target_.endswith("RayLauncher"):
        start_ray(hydra.launcher.ray.init)
    flag = Path(hydra.sweep.dir).absolute() / "interrupted"

    def ask() -> None:
        print("\ninterrupted: waiting for the cells that are running to be saved", file=sys.stderr)
        flag.parent.mkdir(parents=True, exist_ok=True)
        flag.touch()

    global _leading
    _leading = True
    interrupt = _until_dismissed.enter_context(listening(ask))
    _until_dismissed.enter_context(interrupt.held())
    return flag


def start_ray(options: DictConfig) -> None:
    """Join a Ray cluster, or start one; its workers see the folders that this process sees.

    The launcher would do so, but gives a running cluster an option that it refuses, and after
    ``listening``, which this takes SIGTERM from. Raises Mistake where there is no such cluster.
    """
    import ray

    folder = os.getcwd()
    data = {key: value for key, value in os.environ.items() if key == "BENCH_DATA"}

    def settle() -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        os.environ.update(data)

    given: Any = OmegaConf.to_container(options, resolve=True)
    runtime = (given.pop("runtime_env", None) or {}) | {"worker_process_setup_hook": settle}
    try:
        ray.init(**given, runtime_env=runtime)
    except ConnectionError as error:
        raise Mistake(
            f"There is no Ray cluster ({str(error).splitlines()[0]}); ray start --head starts one, "
            "and without hydra.launcher.ray.init.address=... this machine is one."
        ) from None


def begin(flag: Path) -> None:
    """A cell begins in this process: that of the sweep, where joblib has one job, or a worker's."""
    if not _leading:
        work_for(flag)


def check_folder() -> None:
    """Raises Mistake where this worker has not the folder of the sweep, from which paths count."""
    folder = HydraConfig.get().runtime.cwd
    if not os.path.isdir(folder):
        raise Mistake(
            f"A worker has no folder {folder}, which the sweep was started in; all machines of a cluster "
            "need it, on a disk that they share."
        )


def launcher() -> str:
    """The name of the Hydra launcher that this process's cell was started by."""
    if not HydraConfig.initialized():
        return "basic"
    return str(HydraConfig.get().runtime.choices["hydra/launcher"])


def dismiss() -> None:
    """The workers are done, if there were any; raises Interrupted when a signal came."""
    _until_dismissed.close()


def death(error: Exception) -> Died | None:
    """What to say of an exception that tells of a dead worker, None of any other."""
    if isinstance(error, BrokenExecutor) or type(error).__module__.startswith("ray.exceptions"):
        return Died(
            "A worker died before its cell was finished (was it killed, or had it no memory?); run the "
            "same command again: it goes on from what was saved."
        )
    return None
