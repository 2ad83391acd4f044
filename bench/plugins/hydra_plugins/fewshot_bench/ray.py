"""``launcher=ray``: the cells of a sweep are tasks of a Ray cluster."""

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

from bench import workers
from bench.mistake import Mistake, in_a_line

POLL_SECONDS = 1.0
"""How often it is looked whether the sweep is to end."""
CONNECT_SECONDS = 10.0
"""How long a cluster may take to be reached; Ray itself would try for minutes."""


class Ray(Launcher):
    """Hands cells to Ray by hydra-ray-launcher's task, and waits until all are over.

    When the sweep is to end, cells that wait for a place are given back; those that run end by
    themselves, see `bench.workers`. What a lost cell raises is raised when the others are over.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.options: Any = OmegaConf.to_container(ray, resolve=True)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
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
            if workers.ending():
                for each in left:
                    ray.cancel(each)  # workers are deaf to what this sends to a task that runs
        returns = []
        for each in tasks:
            try:
                returns.append(ray.get(each))
            except TaskCancelledError:
                returned = {"status": "interrupted"}
                returns.append(JobReturn(status=JobStatus.COMPLETED, _return_value=returned))
        return returns

    def task(self, overrides: list[str], number: int) -> Any:
        """A cell, handed to the cluster."""
        from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        remote = OmegaConf.create(self.options["remote"])
        state = Singleton.get_state()
        return launch_job_on_ray(self.hydra_context, remote, config, self.task_function, state)


def check(ray: DictConfig) -> None:
    """Raises Mistake where a cluster cannot be reached, or cannot be asked for such tasks."""
    import ray as library

    options: Any = OmegaConf.to_container(ray, resolve=True)
    try:
        library.remote(**options["remote"])(warn_of_waiting)
    except (ValueError, TypeError, AssertionError) as error:
        raise Mistake(
            f"Ray cannot be asked for that (hydra.launcher.ray.remote): {in_a_line(error)}."
        ) from None
    host, colon, port = str(options["init"].get("address")).rpartition(":")
    if not colon or "://" in host:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise no_cluster(error) from None


def start(options: dict[str, Any]) -> None:
    """Join a Ray cluster, or start one; its workers see the folders that this process sees.

    hydra-ray-launcher would give a running cluster an option that it refuses. Raises Mistake.
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
        raise Mistake(
            f"Ray cannot begin like that (hydra.launcher.ray.init): {in_a_line(error)}."
        ) from None
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process at once


def no_cluster(error: Exception) -> Mistake:
    """What to say where a cluster does not answer."""
    return Mistake(
        f"There is no Ray cluster ({str(error).splitlines()[0]}); ray start --head starts one, "
        "and without hydra.launcher.ray.init.address=... this machine is one."
    )


def warn_of_waiting(remote: dict[str, Any]) -> None:
    """Tell of a task that is too large for each machine: it waits for one that is not there yet."""
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
