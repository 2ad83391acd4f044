"""``deterministic=true``: the same bits each time, also on a GPU."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from bench.engine import device, memory
from bench.runs import cell as cells
from bench.runs import run
from bench.runs.probe import probe
from bench.runs.reload import parameters
from bench.runs.verify import verify
from tests.bench.small import ALGOS


@pytest.fixture(autouse=True)
def as_before():
    yield
    device.use_deterministic(False)


@pytest.mark.parametrize("algo", ALGOS)
def test_every_learner_trains_with_it_and_the_row_says_so(make, algo):
    options = [f"algo={algo}", *(["algo.test_inner_steps=1"] if algo == "reptile" else [])]
    plain, strict = make(*options), make(*options, "deterministic=true")
    assert plain.name != strict.name
    record = run.run(strict)
    assert torch.are_deterministic_algorithms_enabled()
    assert record["status"] == "done" and record["deterministic"] is True
    cells.build_components(plain)
    assert not torch.are_deterministic_algorithms_enabled(), "each cell has its own"


def test_no_kernel_is_spent_on_memory_that_is_not_read():
    device.use_deterministic(True)
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_a_stored_run_is_evaluated_again_with_the_arithmetic_that_it_had(make):
    cell = make("deterministic=true")
    run.run(cell)
    device.use_deterministic(False)
    assert verify(cell, cell.name) == []
    assert torch.are_deterministic_algorithms_enabled()
    device.use_deterministic(False)
    next(probe(cell, parameters(cell.store, cell.name), episodes=2))
    assert torch.are_deterministic_algorithms_enabled()


def test_a_fast_algorithm_that_varies_is_refused(make):
    """So that a run that could not be repeated is a failed row and no result."""
    device.use_deterministic(True)
    with pytest.raises(RuntimeError, match="deterministic"):
        torch.zeros(3, device="cpu").put_(torch.tensor([0]), torch.ones(1), accumulate=False)


def test_chunks_do_not_depend_on_who_else_uses_the_gpu(monkeypatch):
    """Other chunks would round otherwise."""
    monkeypatch.setattr(memory, "held_bytes", lambda learner, task: 2**20)
    task = SimpleNamespace(support_x=SimpleNamespace(device=torch.device("cuda")))
    chunks = set()
    for free in (2**28, 2**33):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 2**34))
        chunks.add(memory.choose_chunk_size(None, task))
    assert chunks == {2048}, "a fifth of the memory that the GPU has, as a power of two"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("algo", ["maml", "reptile", "protonet", "metaoptnet"])
def test_two_runs_on_a_gpu_are_the_same_to_the_bit(make, algo, tmp_path):
    options = [f"algo={algo}", "device=cuda", "deterministic=true", "train.examples=2000"]
    ends = []
    for name in "ab":
        cell = make(*options, f"results_dir={tmp_path}/{name}")
        run.run(cell)
        folder = cell.store.runs / cell.name
        episodes = cell.store.episodes(cell.name)["score"].tolist()
        ends.append((episodes, load_file(folder / "model.safetensors")))
    assert ends[0][0] == ends[1][0]
    for name, value in ends[0][1].items():
        assert torch.equal(value, ends[1][1][name]), name
