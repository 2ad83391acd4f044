"""``launcher=ray``: the cells of a sweep run as tasks of a Ray cluster."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from bench.core.errors import UserError, one_line
from bench.sweep import workers

POLL_SECONDS = 1.0
"""Interval at which the launcher checks whether the sweep is to end."""
CONNECT_SECONDS = 10.0
"""Timeout for connecting to a cluster; Ray itself would retry for minutes."""


class Ray(Launcher):
    """Hydra launcher that submits cells to Ray by hydra-ray-launcher's task, and waits for all of them.

    When the sweep is to end, pending cells are cancelled; running ones end by themselves, see
    `bench.sweep.workers`. The error of a lost cell is raised when the others have ended.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.options: Any = OmegaConf.to_container(ray, resolve=True)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store what Hydra provides for the launch."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs as Ray tasks and return their results; cancelled ones are interrupted."""
        import ray
        from ray.exceptions import TaskCancelledError

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if not ray.is_initialized():
            start(self.options["init"])
        warn_of_waiting(self.options["remote"])
        tasks = [
            self.task(list(overrides), initial_job_idx + n)
            for n, overrides in enumerate(job_overrides)
        ]
        left = tasks
        while left:
            _, left = ray.wait(left, num_returns=len(left), timeout=POLL_SECONDS)
            if workers.stopping():
                for each in left:
                    ray.cancel(each)  # running tasks ignore the signal that this sends
        returns = []
        for each in tasks:
            try:
                returns.append(ray.get(each))
            except TaskCancelledError:
                returned = {"status": "interrupted"}
                returns.append(JobReturn(status=JobStatus.COMPLETED, _return_value=returned))
        return returns

    def task(self, overrides: list[str], number: int) -> Any:
        """Submit a cell to the cluster and return its task."""
        from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        remote = OmegaConf.create(self.options["remote"])
        state = Singleton.get_state()
        return launch_job_on_ray(self.hydra_context, remote, config, self.task_function, state)


def check(ray: DictConfig) -> None:
    """Raise UserError if the cluster cannot be reached, or the options of tasks are invalid."""
    import ray as library

    options: Any = OmegaConf.to_container(ray, resolve=True)
    try:
        library.remote(**options["remote"])(warn_of_waiting)
    except (ValueError, TypeError, AssertionError) as error:
        raise UserError(
            f"Ray cannot be asked for that (hydra.launcher.ray.remote): {one_line(error)}."
        ) from None
    host, colon, port = str(options["init"].get("address")).rpartition(":")
    if not colon or "://" in host:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise no_cluster(error) from None


def start(options: dict[str, Any]) -> None:
    """Connect to a Ray cluster, or start one; its workers get this process's folder and BENCH_DATA.

    hydra-ray-launcher would pass an option that a running cluster refuses.

    Raises:
        UserError: The cluster does not answer, or an option is invalid.
    """
    import ray

    folder = os.getcwd()
    data = {key: value for key, value in os.environ.items() if key == "BENCH_DATA"}

    def settle() -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        os.environ.update(data)

    runtime = (options.get("runtime_env") or {}) | {"worker_process_setup_hook": settle}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options | {"runtime_env": runtime})
    except ConnectionError as error:
        raise no_cluster(error) from None
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"Ray cannot begin like that (hydra.launcher.ray.init): {one_line(error)}."
        ) from None
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray's own handler would end this process at once


def no_cluster(error: Exception) -> UserError:
    """Return the error for a cluster that does not answer."""
    return UserError(
        f"There is no Ray cluster ({str(error).splitlines()[0]}); ray start --head starts one, "
        "and without hydra.launcher.ray.init.address=... this machine is one."
    )


def warn_of_waiting(remote: dict[str, Any]) -> None:
    """Print a warning if no machine is large enough for a task, which then waits for a new one."""
    import ray

    machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    for option, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        wanted, most = remote.get(option) or 0, max(each.get(resource, 0) for each in machines)
        if wanted > most:
            print(
                f"No machine of this Ray cluster has the {wanted:g} {resource}s that a cell asks for by "
                f"hydra.launcher.ray.remote.{option} ({most:g} at most): cells wait for one that has.",
                file=sys.stderr,
            )
