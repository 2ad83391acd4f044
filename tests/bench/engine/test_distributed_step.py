"""Steps that processes share, which are threads here: the numbers are those of one process."""

import copy
import threading
from dataclasses import dataclass, field

import pytest
import torch

from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Setting
from algorithms.protonet import ProtoNet
from bench.config.schema import Train
from bench.core.errors import PeerLostError
from bench.engine import throughput
from bench.engine.distributed import ProcessGroup
from bench.engine.train import OuterLoop
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool
from tests.bench.small import PLAIN

CPU = torch.device("cpu")


class Board:
    """Where two threads leave tensors for each other."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)
        self.said: dict[int, torch.Tensor] = {}


@dataclass(frozen=True)
class Threads(ProcessGroup):
    """One of two threads."""

    between: Board = field(default_factory=Board)

    def all_reduce(self, tensor: torch.Tensor) -> None:
        self.between.said[self.rank] = tensor.clone()
        self.between.barrier.wait(600)
        total = self.between.said[0] + self.between.said[1]
        self.between.barrier.wait(600)
        tensor.copy_(total)


@dataclass(frozen=True)
class Alike(ProcessGroup):
    """A process whose others say what it says."""

    def all_reduce(self, tensor: torch.Tensor) -> None:
        tensor *= self.size

    def any_rank(self, wish: bool) -> bool:
        return wish

    def all_gather(self, value: object) -> list[object]:
        return [value] * self.size


@dataclass(frozen=True)
class Gone(ProcessGroup):
    """A process whose others have ended."""

    def all_reduce(self, tensor: torch.Tensor) -> None:
        raise PeerLostError("gone")


@pytest.fixture
def sampler() -> EpisodeSampler:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60, 1, 16, 16), dtype=torch.uint8, generator=generator)
    return EpisodeSampler(
        Pool(images, torch.arange(0, 61, 10), tuple("abcdef")), Setting(3, 2, 4), ()
    )


@pytest.fixture
def learner() -> ProtoNet:
    torch.manual_seed(0)
    return ProtoNet(Conv4((1, 16, 16), filters=4), 3).train()


def plan(meta_batch: int) -> Train:
    options = PLAIN | {"optimizer": "sgd", "momentum": 0.9, "lr": 0.1}
    sizes = {"examples": 10**4, "meta_batch": meta_batch, "ways": 3, "shots": 2, "queries": 4}
    return Train.model_validate(options | sizes)


def test_two_processes_step_as_one_does(sampler, learner):
    """Of three tasks, one has one and the other has two."""
    whole = OuterLoop(copy.deepcopy(learner), sampler, plan(3))
    expected = [whole.advance() for _ in range(3)]
    board, found = Board(), {}

    def work(rank: int) -> None:
        own = EpisodeSampler(sampler.pool, sampler.setting, ())
        loop = OuterLoop(copy.deepcopy(learner), own, plan(3), Threads(rank, 2, between=board))
        found[rank] = [loop.advance() for _ in range(3)], loop.learner.state_dict()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    for metrics, state in found.values():
        torch.testing.assert_close(metrics, expected)
        torch.testing.assert_close(state, whole.learner.state_dict())
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=0)
    moved = [not torch.equal(v, learner.state_dict()[n]) for n, v in found[0][1].items()]
    assert sum(moved) > len(moved) / 2, "parameters and running statistics"


def test_a_step_that_was_not_put_together_leaves_all_as_it_was(sampler, learner):
    loop = OuterLoop(learner, sampler, plan(2), Gone(0, 2))
    before = copy.deepcopy(learner.state_dict())
    with pytest.raises(PeerLostError):
        loop.advance()
    assert loop.step == 0
    torch.testing.assert_close(learner.state_dict(), before, rtol=0, atol=0)


def test_the_speed_of_several_processes_is_told_beside_that_of_one(sampler, learner, monkeypatch):
    monkeypatch.setattr(throughput, "matmul_gflop_per_s", lambda *_: 50.0)
    given = (learner, plan(4), sampler, sampler, 2, CPU, "fp32", 0.0)
    assert throughput.measure(*given, Alike(1, 2)) == []
    rows = {row["phase"]: row for row in throughput.measure(*given, Alike(0, 2))}
    assert list(rows) == ["draw", "train", "train_alone", "evaluate", "adapt", "infer"]
    assert [rows[phase]["tasks_per_call"] for phase in rows] == [2, 4, 4, 2, 2, 2]
    together, alone = rows["train"], rows["train_alone"]
    efficiency = together["tasks_per_s"] / (2 * alone["tasks_per_s"])
    assert together["scaling_efficiency"] == pytest.approx(efficiency)
    assert together["matmul_share"] == pytest.approx(together["gflop_per_s"] / 100)
    assert "scaling_efficiency" not in alone
