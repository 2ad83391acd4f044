"""Several processes that train one cell."""

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.config.compose import composed
from bench.core.errors import PeerLostError, UserError
from bench.engine import device as devices
from bench.engine import distributed as world
from bench.engine.distributed import ProcessGroup
from bench.engine.train import OuterLoop, Training
from bench.runs import cell as cells
from bench.sweep import job as command
from bench.sweep.callback import grid
from tests.bench import steps
from tests.bench.small import SMALL

ROOT = Path(__file__).parents[3]
# without --standalone, two that run at once would meet at one port
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Where two processes come, and where one does."""
    file = tmp_path_factory.mktemp("world") / "two.pt"
    command = [*TWO, "tests.bench.steps", str(file)]
    with subprocess.Popen(command, cwd=ROOT, env=ONE_THREAD) as running:
        one = steps.ends()
    assert running.returncode == 0
    return torch.load(file, weights_only=True), one


@pytest.mark.slow
@pytest.mark.parametrize("algo", steps.ALGOS + steps.CHANGED)
def test_two_processes_train_as_one_does(both, algo):
    two, one = (ends[algo] for ends in both)
    assert two.keys() == one.keys()
    assert one["moved"] > 1e-3
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-12, msg=name)


def process(parent: int, rank: int) -> int:
    """The number of one of torchrun's processes."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next(
        int(child)
        for child in children
        if f"\0RANK={rank}\0" in "\0" + Path(f"/proc/{child}/environ").read_text()
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(tmp_path, cache):
    options = [*SMALL, "algo=maml", "train.examples=6000", "validation.times=20"]
    command = [*TWO, "bench", *options, f"results_dir={tmp_path}", f"cache_dir={cache}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=ONE_THREAD, stderr=pipe, text=True) as running:
        said = ""
        while "validation 2 of 20" not in said:
            said += (char := running.stderr.read(1))
            assert char, said
        os.kill(process(running.pid, 1), signal.SIGKILL)
        said += running.stderr.read()
    assert running.returncode
    assert said.count("Process 0 of 2 goes no further, as another one has ended") == 1
    assert "bench/engine/distributed.py" not in said, "no stack trace of ours"
    (progress,) = tmp_path.glob("runs/*/checkpoint.pt")
    assert torch.load(progress, weights_only=True)["training"]["loop"]["step"] >= 5

    again = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    begun = re.search(r"resumes at step (\d+) of 50", again.stdout)
    assert begun and int(begun[1]) >= 5, again.stdout
    assert again.stdout.count("MAML") == 1, "one process prints"
    record = json.loads(next(tmp_path.glob("runs/*/record.json")).read_text())
    assert (record["processes"], record["train_episodes"]) == (2, 200)
    rates = {row["phase"]: row["tasks_per_s"] for row in record["throughput"]}
    train = record["throughput"][1]
    assert train["scaling_efficiency"] == pytest.approx(rates["train"] / rates["train_alone"] / 2)
    assert sum(1 for _ in (progress.parent / "episodes.csv").open()) == 1 + 12


@pytest.mark.slow
def test_what_fails_in_one_process_is_the_row_of_all(tmp_path, cache):
    options = [
        *SMALL,
        "algo.name=failing",
        "algo.target=tests.bench.failing.Failing",
        "train.meta_batch=2",
    ]
    command = [*TWO, "bench", *options, f"results_dir={tmp_path}", f"cache_dir={cache}"]
    failed = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True)
    assert failed.returncode == 1
    record = json.loads(next(tmp_path.glob("runs/*/record.json")).read_text())
    assert record["status"] == "failed"
    assert record["reason"] == "ValueError: the fourth step is too much (in process 1 of 2)"
    assert f"failed: {record['reason']}" in failed.stderr
    assert "goes no further" not in failed.stderr


@pytest.mark.parametrize(("device", "status"), [("cpu", 0), ("cuda", 1)])
def test_a_process_that_fails_leaves_the_status_to_the_one_that_stores_the_row(
    make, monkeypatch, device, status
):
    def fails(cell):
        raise ValueError("a fault")

    board = torch.distributed.HashStore()
    cell = make("train.meta_batch=2")
    cell = dataclasses.replace(cell, device=torch.device(device))
    other = ProcessGroup(1, 2, failure_store=board)
    monkeypatch.setattr(ProcessGroup, "broadcast", lambda _, make: make())
    monkeypatch.setattr(command, "process_group", lambda: other)
    monkeypatch.setattr("bench.runs.run.run", fails)
    with pytest.raises(SystemExit) as ended:
        command.run(cell)
    assert ended.value.code == status
    assert other.failure() == "ValueError: a fault (in process 1 of 2)"


@pytest.mark.slow
def test_torchrun_starts_anew_what_was_killed(tmp_path, cache):
    options = [
        *SMALL,
        "algo.name=dying",
        "algo.target=tests.bench.failing.Dying",
        "train.meta_batch=2",
    ]
    torchrun = [*TWO[:-1], "--max-restarts=1", "-m"]
    command = [*torchrun, "bench", *options, f"results_dir={tmp_path}", f"cache_dir={cache}"]
    done = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("goes no further") == 1
    assert done.stdout.count("is finished") == 1


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [(0, "not run the same cell"), (1, "not run the same code"), (2, "the same kind of processor")],
)
def test_processes_that_differ_do_not_begin(make, monkeypatch, fact, sentence):
    cell = make("train.meta_batch=2")

    def each(world, said):
        return [said, ((*said[0][:fact], "another", *said[0][fact + 1 :]), None)]

    monkeypatch.setattr(command, "_checked", lambda _: cell)
    monkeypatch.setattr(command, "process_group", lambda: ProcessGroup(0, 2))
    monkeypatch.setattr(ProcessGroup, "any_rank", lambda _, wish: wish)
    monkeypatch.setattr(ProcessGroup, "all_gather", lambda _, said: [said, said])
    assert command.check({}) is cell
    monkeypatch.setattr(ProcessGroup, "all_gather", each)
    with pytest.raises(UserError, match=sentence):
        command.check({})


@pytest.mark.parametrize("local", [0, 1])
def test_one_process_of_a_machine_prepares_the_data_of_all(make, monkeypatch, local):
    cell, done = make("train.meta_batch=2"), []
    monkeypatch.setattr(command, "_checked", lambda _: done.append("checked") or cell)
    monkeypatch.setattr(command, "process_group", lambda: ProcessGroup(2 + local, 4, local))
    monkeypatch.setattr(ProcessGroup, "any_rank", lambda _, wish: done.append("waited"))
    monkeypatch.setattr(ProcessGroup, "all_gather", lambda _, said: 4 * [said])
    command.check({})
    assert done.index("checked") == local and done.count("waited") == 2


def test_a_mistake_of_one_process_alone_is_told_by_the_first(monkeypatch, capsys):
    board = torch.distributed.HashStore()
    for rank, error in ((1, UserError("No such folder.")), (0, PeerLostError("gone"))):
        group = ProcessGroup(rank, 2, failure_store=board)
        monkeypatch.setattr(command, "process_group", lambda group=group: group)
        assert command.report_error(error) == error.status
    assert capsys.readouterr().err == "error: No such folder. (in process 1 of 2)\n"


@pytest.mark.slow
def test_one_process_writes_and_all_name_the_same_folder_of_a_sweep(tmp_path, cache):
    folder = tmp_path / "a=b, c"
    microsecond = "hydra.sweep.dir='${results_dir}/sweeps/${now:%f}'"
    options = [*SMALL, "train.meta_batch=2", f"cache_dir={cache}", microsecond]
    command = [*TWO, "bench", *options, f"results_dir='{folder}'", "-m"]
    done = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is finished") == 1
    assert len(list(folder.glob("sweeps/*"))) == 1
    assert len(list(folder.glob("runs/*/record.json"))) == 1


def test_what_is_not_the_end_of_another_process_is_told_of(monkeypatch):
    with (
        pytest.raises(PeerLostError, match=r"does not answer \(no backend for meta\)"),
        world._others(),
    ):
        raise RuntimeError("no backend for meta\nat line 7")
    refused = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(RuntimeError) as caught, world._others():
        raise refused
    assert caught.value is refused
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "process_group", lambda: ProcessGroup(0, 2))
    with pytest.raises(UserError, match="cannot train together on mps"):
        devices.resolve("mps")


def test_the_commands_of_the_docs_have_an_episode_for_each_process():
    page = (ROOT / "docs" / "engines" / "torchrun.md").read_text()
    commands = re.findall(r"^torchrun (.*) -m bench ([^#\n]*)", page, re.MULTILINE)
    assert len(commands) == 5
    for options, overrides in commands:
        processes = math.prod(map(int, re.findall(r"--(?:nnodes|nproc-per-node)=(\d+)", options)))
        for cell in grid([each for each in overrides.split() if each != "-m"]):
            assert composed(*cell)["train"]["meta_batch"] >= processes > 1, overrides


def test_time_counts_up_to_where_another_process_ends(make, monkeypatch):
    _, loop, *_ = cells.build_components(make("train.meta_batch=1"))
    training = Training(loop, 1)
    advance = OuterLoop.advance

    def lost(self):
        if self.step == 2:
            raise PeerLostError("gone")
        return advance(self)

    monkeypatch.setattr(OuterLoop, "advance", lost)
    with pytest.raises(PeerLostError):
        list(training.run(lambda: torch.zeros(2), lambda: None))
    assert training.loop.step == 2 and training.seconds > 0


def test_episodes_are_shared_out_whole(make, monkeypatch):
    shares = [ProcessGroup(rank, 3).share(8) for rank in range(3)]
    assert [number for share in shares for number in share] == list(range(8))
    assert {len(share) for share in shares} == {2, 3}
    monkeypatch.setattr(cells, "process_group", lambda: ProcessGroup(0, 2))
    with pytest.raises(
        UserError, match="cannot share the 1 episodes of a meta-batch: give train.meta"
    ):
        make("algo=protonet")
    pytest.importorskip("learn2learn")
    with pytest.raises(UserError, match="takes tasks one after the other"):
        make("algo=learn2learn/maml")


@pytest.mark.parametrize(("size", "finalised"), [("1", True), ("2", False)])
def test_a_process_of_torchrun_ends_without_finalisation(size, finalised):
    code = """
import atexit
from bench.engine.distributed import exit_process
atexit.register(print, "registered")
class Last:
    def __del__(self): print("finalised")
last = Last()
print("unflushed", end=" ")
exit_process(3)"""
    env = os.environ | {"TORCHELASTIC_RUN_ID": "one", "WORLD_SIZE": size}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True)
    assert done.returncode == 3
    said = done.stdout.decode().split()
    assert said == ["unflushed", "registered", *(["finalised"] if finalised else [])]
