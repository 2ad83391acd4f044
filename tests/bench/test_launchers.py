"""A sweep whose cells run in other processes, and a short form of `tests.launchers`."""

import os
import signal
import time

import pytest
import torch

from bench import cell as cells
from bench.interrupt import RESUMABLE
from tests.faults import SMALL, started
from tests.launchers import campaign

RAY = "BENCH_TEST_RAY"


@pytest.fixture
def threads():
    """As many threads after the test as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_cells_of_joblib_stop_at_a_signal_and_end_elsewhere_with_the_same_bits(
    tmp_path, make, threads
):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = [*SMALL, "algo=protonet", "train.images=20000", f"cache_dir={tmp_path / 'cache'}"]
    broken = make(*options, "threads=1", f"results_dir={tmp_path / 'broken'}")
    workers = ["launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1"]
    sweep = started("bench", "-m", *options, *workers, f"results_dir={broken.store.root}")
    wait_for(lambda: len(list(broken.store.runs.glob(".*.lock"))) == 2)
    sweep.send_signal(signal.SIGTERM)
    assert sweep.wait(240) == RESUMABLE
    wait_for(lambda: not alive(sweep.pid))
    assert len(list(broken.store.runs.glob("*/progress.pt"))) == 2, "both are saved"

    whole = make(*options, "threads=1", f"results_dir={tmp_path / 'whole'}")
    assert whole.name == broken.name
    accuracies = [cells.run(cell)["accuracy"] for cell in (whole, broken)]
    assert accuracies[0] == accuracies[1]
    one, other = (
        torch.load(cell.store.runs / cell.name / "checkpoint.pt", weights_only=True)
        for cell in (whole, broken)
    )
    assert all(torch.equal(one[key], other[key]) for key in one | other)


@pytest.mark.skipif(RAY not in os.environ, reason=f"takes a minute; {RAY}=1 asks for it")
def test_cells_of_ray_are_those_of_this_process(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    assert campaign(tmp_path, ["algo=protonet", "seed=0,1,2"], ["ray"]) == []


def alive(group: int) -> bool:
    """Whether a process of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(holds, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)
