"""Cost at scale: time and memory as ways, shots, inner steps and the pool's classes grow.

``pytest tests/benchmarks/test_scale.py --benchmark-enable`` ends with a table. Without
``--benchmark-enable``, the two smallest sizes are run once. Weights and images are random; the network
is the strided Conv-4 with 64 filters on images of 28x28, a meta-batch has 4 tasks.
"""

from collections.abc import Callable

import pytest
import torch

from algorithms.learner import Learner, Setting, TaskBatch
from algorithms.maml import MAML
from algorithms.metaoptnet import MetaOptNet
from algorithms.protonet import ProtoNet
from algorithms.reptile import Reptile
from bench.check.tasks import random_episodes
from bench.engine.memory import choose_chunk_size
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool
from tests.benchmarks.sides import strided

QUERIES = 5
LEARNERS = {
    "MAML": lambda ways, **options: MAML(strided(), ways, **options),
    "MAML, 1st order": lambda ways, **options: MAML(strided(), ways, second_order=False, **options),
    "Reptile": lambda ways, **options: Reptile(strided(), ways, **options),
    "ProtoNet": lambda ways: ProtoNet(strided(), ways),
    "MetaOptNet": lambda ways: MetaOptNet(strided(), ways),
}


def step(learner: Learner, ways: int, shots: int, device: torch.device) -> Callable[[], object]:
    """A whole outer gradient of 4 tasks."""
    queries = QUERIES if learner.uses_query_loss else 0
    episodes = random_episodes(4, ways, shots, queries, size=28)
    episodes = TaskBatch(
        *(p.to(device, torch.float32 if p.is_floating_point() else p.dtype) for p in episodes)
    )
    learner = learner.to(device)
    learner.chunk_size = choose_chunk_size(learner, TaskBatch(*(part[:1] for part in episodes)))

    def outer_gradient() -> None:
        learner.zero_grad()
        learner.meta_gradient(episodes)

    return outer_gradient


@pytest.mark.parametrize("name", LEARNERS)
def test_ways(growth, device, name):
    make = LEARNERS[name]
    growth(
        f"{name}, 1 shot", "ways", (5, 10, 20, 40), lambda ways: step(make(ways), ways, 1, device)
    )


@pytest.mark.parametrize("name", LEARNERS)
def test_shots(growth, device, name):
    make = LEARNERS[name]
    growth(
        f"{name}, 5 ways", "shots", (1, 5, 10, 20), lambda shots: step(make(5), 5, shots, device)
    )


@pytest.mark.parametrize("name", ["MAML", "MAML, 1st order", "Reptile"])
def test_inner_steps(growth, device, name):
    make = LEARNERS[name]
    growth(
        f"{name}, 5 ways, 5 shots",
        "inner steps",
        (1, 2, 5, 10),
        lambda steps: step(make(5, inner_steps=steps), 5, 5, device),
    )


def test_classes(growth, device):
    """Drawing 32 episodes of 5 ways, 1 shot, 5 queries; a class has 8 images."""

    def draw(classes: int) -> Callable[[], object]:
        images = torch.randint(0, 256, (classes * 8, 1, 28, 28), dtype=torch.uint8, device=device)
        offsets = torch.arange(classes + 1, device=device) * 8
        pool = Pool(images, offsets, tuple(map(str, range(classes))))
        sampler = EpisodeSampler(pool, Setting(5, 1, QUERIES), ("scale",))
        first = iter(range(0, 10**9, 32))
        return lambda: sampler.draw(next(first), 32)

    growth("drawing", "classes", (100, 1_000, 10_000, 100_000), draw)
