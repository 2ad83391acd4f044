"""A sweep whose cells run in other processes; short forms of two campaigns."""

import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch
from safetensors.torch import load_file

from bench.cli import command
from bench.core import signals
from bench.core.signals import RESUMABLE
from bench.runs import run
from tools.campaigns import cells_per_gpu
from tools.campaigns.faults import SMALL, differences, started
from tools.campaigns.launchers import QUIET


@pytest.fixture
def threads():
    """As many threads after the test as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_cell_of_joblib_stops_at_a_signal_and_ends_elsewhere_with_the_same_bits(
    tmp_path, make, threads
):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = [*SMALL, "algo=protonet", "train.examples=9000", f"cache_dir={tmp_path / 'cache'}"]
    broken = make(*options, "threads=1", f"results_dir={tmp_path / 'broken'}")
    workers = ["launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep = started("bench", "-m", *options, *workers, f"results_dir={broken.store.root}")
    wait_for(lambda: list(broken.store.runs.glob(".*.lock")), sweep)
    sweep.send_signal(signal.SIGTERM)
    assert sweep.wait() == RESUMABLE
    while alive(sweep.pid):  # its workers, which see that it has ended
        time.sleep(0.1)
    assert broken.store.checkpoint(broken.name) and not broken.store.record(broken.name)

    whole = make(*options, "threads=1", f"results_dir={tmp_path / 'whole'}")
    assert whole.name == broken.name
    accuracies = [run.run(cell)["score"] for cell in (whole, broken)]
    assert accuracies[0] == accuracies[1]
    one, other = (
        load_file(cell.store.runs / cell.name / "model.safetensors") for cell in (whole, broken)
    )
    assert all(torch.equal(one[key], other[key]) for key in one | other)


def test_a_worker_whose_sweep_was_killed_ends_after_its_cell(monkeypatch, tmp_path):
    ends: list[int] = []
    monkeypatch.setattr("os._exit", ends.append)
    signals.exit_if_orphaned()  # this is no worker
    monkeypatch.setattr(signals, "_flag", tmp_path / "interrupted")
    signals.exit_if_orphaned()  # of a sweep that lives
    assert not ends and not signals.stop_requested()
    monkeypatch.setattr(signals, "_parent", -1)
    signals.exit_if_orphaned()
    assert ends == [RESUMABLE] and signals.stop_requested()


def test_a_dead_worker_is_told_in_a_sentence(monkeypatch, capsys):
    def main() -> None:
        raise BrokenProcessPool("a worker process was terminated")

    monkeypatch.setattr(command, "main", main)
    assert command.command([]) == RESUMABLE
    told = capsys.readouterr().err
    assert told.startswith("error: A worker died") and "run the same command again" in told
    assert told.count("\n") == 1


def test_the_table_of_cells_at_a_time_holds_median_range_and_gain():
    lines = cells_per_gpu.table({1: [90.0, 110.0, 100.0], 4: [250.0, 240.0, 290.0]}).splitlines()
    assert lines[2:] == [
        "| 1 | 100.0 | 90.0 to 110.0 | 1.00 |",
        "| 4 | 250.0 | 240.0 to 290.0 | 2.50 |",
    ]


@pytest.mark.slow
def test_cells_at_a_time_are_measured_on_a_cpu(capsys):
    options = [*SMALL, "algo=protonet", "train.examples=3000"]
    assert (
        cells_per_gpu.main(["--at-once", "1", "2", "--cells", "2", "--times", "1", *options]) == 0
    )
    assert "Most cells an hour: hydra.launcher.n_jobs=" in capsys.readouterr().out


@pytest.mark.slow
def test_cells_of_ray_have_the_bits_of_one_here_and_stop_at_a_signal(
    tmp_path, make, threads, monkeypatch
):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    options = [*SMALL, "algo=protonet", "train.examples=60000", f"cache_dir={tmp_path / 'cache'}"]
    cells = [make(*options, f"seed={n}", f"results_dir={tmp_path / 'ray'}") for n in range(3)]
    store = cells[0].store
    ray = ["launcher=ray", "+hydra.launcher.ray.init.num_cpus=1", f"results_dir={store.root}"]
    sweep = started("bench", "-m", *options, *ray, "seed=0,1,2")
    # one after the other: one is finished, the next is trained, the last waits for a place
    wait_for(lambda: len(list(store.runs.glob(".*.lock"))) == 2, sweep)
    sweep.send_signal(signal.SIGTERM)
    assert sweep.wait() == RESUMABLE
    (finished,) = [n for n, cell in enumerate(cells) if store.record(cell.name)]
    assert sum(store.checkpoint(cell.name) is not None for cell in cells) == 1
    whole = make(*options, f"seed={finished}", "threads=1", f"results_dir={tmp_path / 'whole'}")
    run.run(whole)
    assert differences(whole.store.root, store.root) == []
    assert store.record(whole.name)["launcher"] == "ray"


def alive(group: int) -> bool:
    """Whether a process of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(holds, process) -> None:
    """Wait, however busy the machine is, for something that a process does before it ends."""
    while not holds():
        assert process.poll() is None
        time.sleep(0.1)
