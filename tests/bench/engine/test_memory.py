import copy
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Learner, TaskBatch
from algorithms.maml import MAML
from algorithms.metaoptnet import MetaOptNet
from algorithms.protonet import ProtoNet
from algorithms.reptile import Reptile
from bench.check.tasks import random_episodes
from bench.engine import memory

CPU = torch.device("cpu")
MOST_MIB = 400
LEARNERS = {
    "maml": (MAML, {}, 1),
    "maml, 5 steps": (MAML, {"inner_steps": 5}, 1),
    "reptile": (Reptile, {}, 10),
    "protonet": (ProtoNet, {}, 1),
    "metaoptnet": (MetaOptNet, {}, 1),
}


class Squares(Learner):
    """Its gradient holds the images (squared twice, one after the other) and nothing else of size."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def meta_gradient(self, episodes: TaskBatch) -> dict[str, torch.Tensor]:
        images = episodes.query_x * 1
        for _ in range(2):
            square = (images * self.weight).square().sum()  # holds images and their product
            another = (images * self.weight).sum()  # holds the same images once more
            (square + another).backward()
            square = another = None
        return {}


def float_episodes(tasks: int, shots: int, queries: int) -> TaskBatch:
    episodes = random_episodes(tasks, 5, shots, queries, size=28)
    return TaskBatch(*(p.float() if p.is_floating_point() else p for p in episodes))


def strided(name: str) -> tuple[Learner, TaskBatch]:
    """A learner on the Conv-4 with 64 filters, and a meta-batch of 32 tasks."""
    method, options, shots = LEARNERS[name]
    learner = method(Conv4((1, 28, 28), filters=64, downsample="stride"), 5, **options)
    return learner, float_episodes(32, shots, 15 if learner.uses_query_loss else 0)


def first(tasks: int, episodes: TaskBatch) -> TaskBatch:
    return TaskBatch(*(part[:tasks] for part in episodes))


def test_what_is_held_is_counted_once_and_only_while_it_is_held():
    learner = Squares()
    episode = float_episodes(1, 1, 3)
    images = episode.query_x.nbytes
    assert 2 * images <= memory.held_bytes(learner, episode) < 2.1 * images
    assert learner.weight.grad is None, "the learner is not changed"


def test_memory_is_refused_in_many_words():
    """Those of a CPU are what torch 2.15 said under a real limit of memory."""
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: error code 12"),
        RuntimeError("could not create a primitive"),
    ):
        assert memory.out_of_memory(error)
    assert not memory.out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.out_of_memory(ValueError("could not create a primitive"))


def test_nothing_is_kept_afterwards():
    learner = ProtoNet(Conv4((1, 28, 28), filters=4), 5)
    before = copy.deepcopy(learner.state_dict())
    episode = float_episodes(1, 1, 3)
    memory.held_bytes(learner.eval(), episode)
    assert not learner.training
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    images = weakref.ref(episode.query_x)
    del episode
    assert images() is None


def test_larger_tasks_come_in_smaller_numbers():
    learner = MAML(Conv4((1, 28, 28), filters=16), 5)
    few, many = (memory.choose_chunk_size(learner, float_episodes(1, 1, q)) for q in (15, 1))
    assert 1 <= few < many
    assert few & (few - 1) == many & (many - 1) == 0, (
        "powers of two, which halve the usual meta-batches"
    )
    huge = MAML(Conv4((1, 28, 28), filters=256), 5)
    assert memory.choose_chunk_size(huge, float_episodes(1, 1, 15)) == 1


MEASURE = """
from bench.core import process
process.configure()
import torch
from bench.engine import device, memory
from tests.bench.engine.test_memory import CPU, LEARNERS, MOST_MIB, first, float_episodes, strided
torch.set_num_threads(2)
for name in LEARNERS:
    learner, episodes = strided(name)
    learner.chunk_size = memory.choose_chunk_size(learner, first(1, episodes))
    learner.meta_gradient(first(4, episodes))  # libraries set themselves up
    for _ in range(2):
        device.reset_peak_memory(CPU)
        before = device.peak_mib(CPU)
        learner.meta_gradient(episodes)
        if (peak := device.peak_mib(CPU) - before) < MOST_MIB:
            break
    print(name, round(peak), sep=": ")
"""


@pytest.mark.slow
def test_a_meta_batch_of_32_takes_less_than_400_mib():
    """In a process of its own, as the heap of a long one is in pieces."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = dict(line.split(": ") for line in done.stdout.splitlines())
    assert peaks.keys() == LEARNERS.keys()
    assert max(map(int, peaks.values())) < MOST_MIB, peaks
