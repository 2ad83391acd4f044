"""A sweep whose cells run in other processes, which end with it: those of joblib and of Ray."""

import os
import sys
import uuid
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bench.interrupt import RESUMABLE, Interrupt, listening, work_for
from bench.mistake import Mistake, in_a_line
from bench.world import here

LAUNCHERS = ("JoblibLauncher", "fewshot_bench.ray.Ray")
"""Other launchers, such as SLURM's, start what goes on without the sweep."""

_until_dismissed = ExitStack()

_leading: Interrupt | None = None
"""What became of signals, in the process of the sweep; None in a worker."""

LOST = ("WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "OutOfMemoryError")
"""What Ray raises of a cell whose worker or machine ended too often."""


class Died(Mistake):
    """A worker ended before its cell did."""

    status = RESUMABLE


class Workers(NamedTuple):
    """What workers of a sweep know of it."""

    flag: Path
    """A file that, when it is there, asks them to end."""
    parent: int | None
    """The process that ends with the sweep, and that theirs is a child of; None where any may be."""


def check(hydra: DictConfig) -> None:
    """Raises Mistake where the launcher of a sweep could not begin."""
    target = hydra.launcher._target_
    if here().size > 1 and not target.endswith("BasicLauncher"):
        raise Mistake("torchrun runs cell after cell: leave out torchrun, or launcher=...")
    if target.endswith("JoblibLauncher"):
        check_joblib(hydra.launcher)
    elif target.endswith("ray.Ray"):
        from hydra_plugins.fewshot_bench import ray

        ray.check(hydra.launcher.ray)
    elif target.endswith("slurm.Slurm"):
        from hydra_plugins.fewshot_bench import slurm

        slurm.check()


def check_joblib(launcher: DictConfig) -> None:
    """Raises Mistake where joblib would not take an option, which it tells when cells shall run."""
    from hydra_plugins.hydra_joblib_launcher._core import process_joblib_cfg
    from joblib import Parallel

    if launcher.n_jobs == 0:
        raise Mistake(
            "hydra.launcher.n_jobs=0 is not possible: it should be 1 or more, or -1 for all."
        )
    options: Any = OmegaConf.to_container(launcher)
    del options["_target_"]
    process_joblib_cfg(options)  # which makes numbers of what Hydra has as texts
    try:
        Parallel(**options)
    except (ValueError, TypeError) as error:
        raise Mistake(
            f"joblib cannot begin like that (hydra.launcher): {in_a_line(error)}."
        ) from None


def prepare(hydra: DictConfig) -> Workers | None:
    """Let a first signal ask the workers of a sweep to save and end, and a second one wait for nothing.

    Gives what those need to know, None where the launcher has no such workers.
    """
    target = hydra.launcher._target_
    if not target.endswith(LAUNCHERS):
        return None
    # a name of its own, as other commands may have begun in that folder
    flag = Path(hydra.sweep.dir).absolute() / f"interrupted-{uuid.uuid4().hex}"

    def ask() -> None:
        print("\ninterrupted: waiting for the cells that are running to be saved", file=sys.stderr)
        flag.parent.mkdir(parents=True, exist_ok=True)
        flag.touch()

    global _leading
    _leading = _until_dismissed.enter_context(listening(ask))
    _until_dismissed.enter_context(_leading.held())
    return Workers(flag, os.getpid() if target.endswith("JoblibLauncher") else None)


def ending() -> bool:
    """Whether the sweep, of which this is the process, was asked to end."""
    return _leading is not None and _leading.requested()


def begin(sweep: Workers) -> None:
    """A cell begins in this process: that of the sweep, where joblib has one job, or a worker's."""
    if not _leading:
        work_for(*sweep)


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


def death(error: Exception) -> Mistake | None:
    """What to say of an exception that tells of a dead worker, or of Ray; None of any other."""
    of_ray = type(error).__module__.startswith("ray.exceptions")
    if isinstance(error, BrokenExecutor) or (of_ray and type(error).__name__ in LOST):
        return Died(
            "A worker died before its cell was finished (was it killed, or had it no memory?); run the "
            "same command again: it goes on from what was saved."
        )
    return Mistake(f"Ray could not run a cell: {in_a_line(error)}.") if of_ray else None
