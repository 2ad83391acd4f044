"""Worker processes of local (joblib) and Ray sweeps, which end with the sweep."""

import os
import sys
import uuid
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bench.core.errors import UserError, one_line
from bench.core.signals import RESUMABLE, Interrupt, become_worker, handle_signals
from bench.engine.distributed import process_group

LAUNCHERS = ("JoblibLauncher", "fewshot_bench.ray.Ray")
"""Launchers with such workers; the jobs of others, such as SLURM's, outlive the sweep."""

_until_dismissed = ExitStack()

_signals: Interrupt | None = None
"""Signal handling of the sweep's process; None in a worker."""

LOST = ("WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "OutOfMemoryError")
"""Exceptions that Ray raises for a cell whose worker or machine died too often."""


class WorkerDiedError(UserError):
    """A worker died before its cell was finished."""

    status = RESUMABLE


class Workers(NamedTuple):
    """State of a sweep that its workers need."""

    flag: Path
    """A file whose existence asks workers to end."""
    parent: int | None
    """The parent of the workers, which ends with the sweep; None if their parent may be any process."""


def check(hydra: DictConfig) -> None:
    """Raise UserError if the launcher of a sweep could not start."""
    target = hydra.launcher._target_
    if process_group().size > 1 and not target.endswith("BasicLauncher"):
        raise UserError("torchrun runs cell after cell: leave out torchrun, or launcher=...")
    if target.endswith("JoblibLauncher"):
        check_joblib(hydra.launcher)
    elif target.endswith("ray.Ray"):
        from hydra_plugins.fewshot_bench import ray

        ray.check(hydra.launcher.ray)
    elif target.endswith("slurm.Slurm"):
        from hydra_plugins.fewshot_bench import slurm

        slurm.check()


def check_joblib(launcher: DictConfig) -> None:
    """Raise UserError for options that joblib would reject only when cells are launched."""
    from hydra_plugins.hydra_joblib_launcher._core import process_joblib_cfg
    from joblib import Parallel

    if launcher.n_jobs == 0:
        raise UserError(
            "hydra.launcher.n_jobs=0 is invalid: it should be 1 or more, or -1 for all."
        )
    options: Any = OmegaConf.to_container(launcher)
    del options["_target_"]
    process_joblib_cfg(options)  # converts Hydra's strings to numbers
    try:
        Parallel(**options)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"joblib cannot begin like that (hydra.launcher): {one_line(error)}."
        ) from None


def start(hydra: DictConfig) -> Workers | None:
    """Let a first signal ask the workers of a sweep to save and end, and a second one end at once.

    Returns:
        The state that workers need, or None if the launcher has no such workers.
    """
    target = hydra.launcher._target_
    if not target.endswith(LAUNCHERS):
        return None
    # a unique name, as other commands may use the same folder
    flag = Path(hydra.sweep.dir).absolute() / f"interrupted-{uuid.uuid4().hex}"

    def ask() -> None:
        print("\ninterrupted: waiting for the cells that are running to be saved", file=sys.stderr)
        flag.parent.mkdir(parents=True, exist_ok=True)
        flag.touch()

    global _signals
    _signals = _until_dismissed.enter_context(handle_signals(ask))
    _until_dismissed.enter_context(_signals.deferred())
    return Workers(flag, os.getpid() if target.endswith("JoblibLauncher") else None)


def stopping() -> bool:
    """Return whether the sweep of this process was asked to end."""
    return _signals is not None and _signals.requested()


def on_worker_start(sweep: Workers) -> None:
    """Make this process a worker, unless it is the sweep's own, as with a single joblib job."""
    if not _signals:
        become_worker(*sweep)


def check_folder() -> None:
    """Raise UserError if this worker lacks the sweep's folder, to which paths are relative."""
    folder = HydraConfig.get().runtime.cwd
    if not os.path.isdir(folder):
        raise UserError(
            f"A worker has no folder {folder}, which the sweep was started in; all machines of a cluster "
            "need it, on a disk that they share."
        )


def shutdown() -> None:
    """Stop handling signals for workers, if there were any; raise Interrupted if a signal came."""
    _until_dismissed.close()


def explain_crash(error: Exception) -> UserError | None:
    """Return the user error for an exception due to a dead worker, or to Ray; None for any other."""
    of_ray = type(error).__module__.startswith("ray.exceptions")
    if isinstance(error, BrokenExecutor) or (of_ray and type(error).__name__ in LOST):
        return WorkerDiedError(
            "A worker died before its cell was finished (was it killed, or had it no memory?); run the "
            "same command again: it resumes from what was saved."
        )
    return UserError(f"Ray could not run a cell: {one_line(error)}.") if of_ray else None
