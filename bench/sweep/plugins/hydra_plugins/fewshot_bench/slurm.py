"""``launcher=slurm``: the unfinished cells of a sweep are submitted as one SLURM job array."""

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from tqdm import tqdm

from bench.core.errors import UserError

POLL_SECONDS = 5.0
"""Interval at which SLURM is asked for the states of jobs."""
PATIENCE = 12
"""Polls for which a job may have neither a result nor a place in the queue: shared disks show files late.

The same limit holds for a cell run by another process that has neither a record nor a process: jobs
are requeued."""
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
ENDED |= {"PREEMPTED", "TIMEOUT", "GONE"}
"""States of jobs that will not run again; requeued ones are PENDING."""
ASK = ["squeue", "--noheader", "--array", "--states=all", "--format=%i:%T"]
"""Command for the states of jobs, which also works without SLURM accounting."""


class Slurm(Launcher):
    """Hydra launcher that submits jobs through submitit, shows their states and reports lost ones.

    Finished cells are not submitted, and those that another process is running are waited for. A
    job that reaches its time limit saves its training and has itself requeued, see
    `bench.core.signals`.
    """

    def __init__(self, submitit_folder: str, max_num_timeout: int, **parameters: Any) -> None:
        self.folder = submitit_folder
        self.max_num_timeout = max_num_timeout
        self.parameters: Any = OmegaConf.to_container(OmegaConf.create(parameters))

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Create the submitit launcher whose jobs run the cells."""
        from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

        self.hydra_context, self.config = hydra_context, config
        self.job = SlurmLauncher()
        self.job.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit the unfinished cells, wait for all and return their results; lost ones are reported."""
        from submitit.core.utils import UncompletedJobError

        cells = [self.checked(list(overrides)) for overrides in job_overrides]
        records = [cell.existing_record() for cell in cells]
        elsewhere = [cell.store.running(cell.name) for cell in cells]
        left = [n for n in range(len(cells)) if not (records[n] or elsewhere[n])]
        jobs = self.submitted([(list(job_overrides[n]), initial_job_idx + n) for n in left])
        others = sum(elsewhere)
        ended = len(cells) - len(jobs) - others
        print(f"{len(cells)} cells: {len(jobs)} are jobs now, {others} are run by others, ", end="")
        print(f"{ended} have ended", flush=True)
        if jobs:
            array, logs = jobs[0].job_id.partition("_")[0], jobs[0].paths.folder.parent
            print(f"Jobs: squeue --jobs={array}; their logs: {logs}", flush=True)
        try:
            lost = wait(jobs, [cell for n, cell in enumerate(cells) if elsewhere[n]])
        except KeyboardInterrupt:
            if jobs:
                print(f"\nthe jobs go on; scancel {array} ends them", file=sys.stderr)
            raise
        returns = [JobReturn(status=JobStatus.COMPLETED, _return_value=each) for each in records]
        for n, job in zip(left, jobs, strict=True):
            try:
                if job.job_id not in lost:
                    returns[n] = job.result()
                    continue
            except UncompletedJobError:  # outside of the cell, such as a missing package
                lost[job.job_id] = "FAILED"
            returns[n].return_value = {"status": "lost"}
            print(
                f"{cells[n].name} has not ended: job {job.job_id} is {lost[job.job_id].lower()}, and "
                f"its log {job.paths.stderr} ends with: {end_of(job.paths.stderr)}",
                file=sys.stderr,
            )
        return returns

    def checked(self, overrides: list[str]) -> Any:
        """Return the checked cell that these overrides describe."""
        from bench.sweep.job import check

        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            del config["hydra"]
        return check(config)

    def submitted(self, cells: list[tuple[list[str], int]]) -> list[Any]:
        """Submit a job for each cell, given by its overrides and number; raise UserError."""
        if not cells:
            return []
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError

        executor = AutoExecutor(self.folder, "slurm", slurm_max_num_timeout=self.max_num_timeout)
        general = {field.name for field in fields(BaseQueueConf)}
        executor.update_parameters(
            **{k if k in general else f"slurm_{k}": v for k, v in self.parameters.items()}
        )
        state = Singleton.get_state()
        rows = [(what, "hydra.sweep.dir", n, str(n), state) for what, n in cells]
        try:
            return list(executor.map_array(self.job, *zip(*rows, strict=True)))
        except FailedJobError:  # rejected by sbatch
            raise UserError(
                "SLURM refuses the jobs, for the reason above: give what it takes with "
                "hydra.launcher.partition=..., timeout_min=..., mem_gb=... and the like."
            ) from None


def check() -> None:
    """Raise UserError if this machine cannot submit SLURM jobs."""
    if not all(map(shutil.which, ("sbatch", "srun", "squeue"))):
        raise UserError(
            "launcher=slurm needs the commands sbatch, srun and squeue, which are not here: run it "
            "where jobs of SLURM are submitted, or take launcher=joblib."
        )


def wait(jobs: list[Any], others: list[Any]) -> dict[str, str]:
    """Show the states of jobs until they, and the cells that other processes run, have ended.

    Return the states of jobs without a result, by job id.
    """
    left = {job.job_id: job for job in jobs}
    missed: Counter[str] = Counter()
    lost: dict[str, str] = {}
    total = len(jobs) + len(others)
    with tqdm(total=total, unit="cell", desc="SLURM") as bar:
        while left or others:
            states = queue(list(left))
            counts = sorted(Counter(states.values()).items())
            text = ", ".join(f"{count} {state.lower()}" for state, count in counts)
            bar.set_postfix_str(text, refresh=text != bar.postfix)
            for name, state in states.items():
                missed[name] = missed[name] + 1 if state in ENDED else 0
                if left[name].paths.result_pickle.exists():
                    del left[name]
                elif missed[name] > PATIENCE:
                    del left[name]
                    lost[name] = state
            for cell in others:
                missed[cell.name] = 0 if cell.store.running(cell.name) else missed[cell.name] + 1
            others = [
                cell
                for cell in others
                if missed[cell.name] <= (0 if cell.existing_record() else PATIENCE)
            ]
            bar.update(total - len(left) - len(others) - bar.n)
            if left or others:
                time.sleep(POLL_SECONDS)
    return lost


def queue(names: list[str]) -> dict[str, str]:
    """Return the state of each of these jobs of one array."""
    if not names:
        return {}
    asked = subprocess.run(
        [*ASK, f"--jobs={names[0].partition('_')[0]}"], capture_output=True, text=True
    )
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return dict.fromkeys(names, "NO ANSWER")
    known = dict(line.split(":") for line in asked.stdout.split())
    return {name: known.get(name, "GONE") for name in names}


def end_of(log: Path) -> str:
    """Return the last line of a log, which usually says what went wrong."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return next((line for line in reversed(lines) if not line.startswith("srun: ")), "nothing")
