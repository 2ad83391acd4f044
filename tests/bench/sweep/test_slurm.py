"""Cells as jobs of a cluster: what submitit does when time is up, and how jobs that vanish are told.

A real SLURM is tried by `tools.campaigns.slurm`.
"""

import os
import pickle
import signal
from types import SimpleNamespace

import pandas as pd
import pytest

from bench.core.errors import UserError
from bench.core.signals import Interrupted
from bench.runs import checkpoint as progress
from bench.runs import run as running
from tests.bench.runs.test_resume import QUICK, ends, interrupt_at

pytest.importorskip("submitit", reason="needs the extra slurm")

from hydra_plugins.fewshot_bench import slurm
from submitit.core.utils import DelayedSubmission
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE, LocalJobEnvironment


class Job:
    """What submitit runs in a job, and puts into the queue again."""

    def __call__(self) -> None: ...

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(self)


@pytest.fixture
def in_a_job(tmp_path, monkeypatch):
    """This process has submitit's handlers of signals, as a job that may reach its time limit once."""
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "7")
    monkeypatch.setenv("SUBMITIT_FOLDER", str(tmp_path))
    numbers = (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}

    def start(times: int) -> LocalJobEnvironment:
        job, environment = DelayedSubmission(Job()), LocalJobEnvironment()
        job.set_timeout(1, times)
        environment._handle_signals(environment.paths, job)
        return environment

    yield start
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_job_whose_time_is_up_is_saved_requeued_and_ends_as_one_that_had_time(
    make, monkeypatch, in_a_job, tmp_path
):
    whole, job = (make(*QUICK, f"results_dir={tmp_path}/{name}") for name in "ab")
    running.run(whole)
    environment = in_a_job(times=1)
    interrupt_at(monkeypatch, {2}, signal.SIGUSR2)
    with pytest.raises(SystemExit) as requeued:
        running.run(job)
    assert requeued.value.code == LOCAL_REQUEUE_RETURN_CODE
    assert progress.load_checkpoint(job)["training"]["loop"]["step"] == 2
    assert environment.paths.submitted_pickle.exists(), "what the job does next time"

    in_a_job(times=0)
    interrupt_at(monkeypatch, {3}, signal.SIGUSR2)
    with pytest.raises(Interrupted, match="timed-out too many times"):
        running.run(job)
    assert progress.load_checkpoint(job)["training"]["loop"]["step"] == 3
    assert job.existing_record() is None, "it did not fail: the same command goes on with it"

    interrupt_at(monkeypatch, {4}, signal.SIGTERM)  # which comes first when a job is preempted
    running.run(job)
    pd.testing.assert_frame_equal(ends(job)[0], ends(whole)[0], check_exact=True)
    assert ends(job)[1] == ends(whole)[1]


def test_jobs_that_left_no_result_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.0)
    jobs = [
        SimpleNamespace(job_id=f"3_{n}", paths=SimpleNamespace(result_pickle=tmp_path / f"{n}.pkl"))
        for n in range(3)
    ]
    jobs[0].paths.result_pickle.write_bytes(pickle.dumps("done"))
    asked = iter(
        [
            {"3_0": "COMPLETED", "3_1": "RUNNING", "3_2": "TIMEOUT"},
            {"3_1": "COMPLETED", "3_2": "PENDING"},  # it is in the queue again
            *[{"3_1": "GONE", "3_2": "OUT_OF_MEMORY"}] * slurm.PATIENCE,
            {"3_1": "GONE", "3_2": "OUT_OF_MEMORY"},
        ]
    )

    def queue(names: list[str]) -> dict[str, str]:
        states = next(asked)
        return {name: states[name] for name in names}

    monkeypatch.setattr(slurm, "queue", queue)
    assert slurm.wait(jobs, []) == {"3_1": "GONE", "3_2": "OUT_OF_MEMORY"}


@pytest.mark.parametrize(("back", "polls"), [(True, 6), (False, 3 + slurm.PATIENCE)])
def test_a_cell_of_another_command_may_be_requeued(monkeypatch, back, polls):
    """It runs twice, is in the queue, and then runs again to its end, or never."""
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.0)
    moments = iter([True, True, False, False, back, False] + [False] * slurm.PATIENCE)
    asked = []

    def running(name):
        asked.append(name)
        return next(moments)

    def existing_record():
        return {"status": "done"} if back and len(asked) > 5 else None

    cell = SimpleNamespace(
        name="x", store=SimpleNamespace(running=running), existing_record=existing_record
    )
    assert slurm.wait([], [cell]) == {}
    assert len(asked) == polls


def test_without_slurm_a_sentence_says_so(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(
        UserError, match="launcher=slurm needs the commands sbatch, srun and squeue"
    ):
        slurm.check()
