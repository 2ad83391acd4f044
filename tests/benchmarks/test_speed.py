"""Speed against learn2learn 0.2.0, in the same run, on the same machine and shapes.

``pytest tests/benchmarks --benchmark-enable`` prints times; the ratio to the peer is in
``extra_info`` of the saved JSON (``--benchmark-json=FILE``). Without ``--benchmark-enable`` they
are tests of correctness.
"""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Episodes, Shape
from algorithms.maml import MAML
from algorithms.metaoptnet import MetaOptNet
from bench.data.episodes import EpisodeSampler
from bench.data.pool import Pool
from tests.algorithms.tasks import PlainConv4

l2l = pytest.importorskip("learn2learn")

TASKS = 32
ROUNDS = 7


def against(
    benchmark,
    ours: Callable[[], object],
    peer: Callable[[], object],
    our_tasks: int = TASKS,
    peer_tasks: int = TASKS,
) -> None:
    """Time both, interleaved, after a warm-up; the ratio of tasks/s (medians) goes to extra_info."""
    if benchmark.disabled:
        benchmark(ours)
        return
    rates: dict[str, list[float]] = {"ours": [], "learn2learn": []}
    for timed in range(-1, ROUNDS):
        for name, work, tasks in (("ours", ours, our_tasks), ("learn2learn", peer, peer_tasks)):
            start = time.perf_counter()
            work()
            if timed >= 0:
                rates[name].append(tasks / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    benchmark.extra_info |= {f"{name}_tasks_per_s": rate for name, rate in medians.items()}
    benchmark.extra_info |= {
        "ratio_to_learn2learn": medians["ours"] / medians["learn2learn"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    benchmark.pedantic(ours, rounds=ROUNDS, warmup_rounds=1)


def random_pool(classes: int = 1000, size: int = 20) -> Pool:
    images = torch.randint(0, 256, (classes * size, 1, 28, 28), dtype=torch.uint8)
    return Pool(images, torch.arange(classes + 1) * size, tuple(map(str, range(classes))))


@pytest.mark.parametrize("shape", [Shape(5, 1, 15), Shape(5, 5, 15), Shape(20, 1, 15)], ids=str)
def test_drawing_episodes(benchmark, shape):
    """Episodes of uint8 images, TASKS a call; learn2learn draws with its fused transform."""
    pool = random_pool()
    sampler = EpisodeSampler(pool, shape, ("speed",))
    owner = torch.repeat_interleave(torch.arange(1000), 20).tolist()

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(owner)

        def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
            return pool.images[row], owner[row]

    data = l2l.data.MetaDataset(
        Images(),
        indices_to_labels=dict(enumerate(owner)),
        labels_to_indices={c: list(range(20 * c, 20 * c + 20)) for c in range(1000)},
    )
    transforms = l2l.data.transforms
    tasks = l2l.data.Taskset(
        data,
        task_transforms=[
            transforms.FusedNWaysKShots(data, n=shape.ways, k=shape.shots + shape.queries),
            transforms.LoadData(data),
            transforms.RemapLabels(data),
        ],
    )
    drawn = sampler.draw(0, TASKS)
    assert drawn.support_x.shape == (TASKS, shape.ways, shape.shots, 1, 28, 28)
    images, labels = tasks.sample()
    assert len(images) == len(labels) == shape.ways * (shape.shots + shape.queries)

    number = iter(range(0, 10**9, 100 * TASKS))

    def ours() -> None:
        first = next(number)
        for call in range(100):
            sampler.draw(first + call * TASKS, TASKS)

    def peer() -> None:
        for _ in range(100):
            tasks.sample()

    against(benchmark, ours, peer, our_tasks=100 * TASKS, peer_tasks=100)


def random_episodes(ways: int, shots: int, queries: int) -> Episodes:
    labels = torch.arange(ways)
    return Episodes(
        torch.rand(TASKS, ways, shots, 1, 28, 28),
        labels[:, None].expand(TASKS, ways, shots),
        torch.rand(TASKS, ways * queries, 1, 28, 28),
        labels.repeat_interleave(queries).expand(TASKS, -1),
    )


@pytest.mark.parametrize("second_order", [True, False])
def test_outer_step_of_maml(benchmark, second_order):
    """5-way 1-shot, 15 queries, 1 inner step, 32 tasks, strided Conv-4 with 64 filters."""
    learner = MAML(
        Conv4((1, 28, 28), filters=64, downsample="stride"),
        5,
        inner_rate=0.5,
        second_order=second_order,
        statistics="queries",
    )
    learner.tasks_at_once = 4
    episodes = random_episodes(5, 1, 15)
    plain = PlainConv4(64, 256, 5).load_from(learner.network)
    peer = l2l.algorithms.MAML(plain, lr=0.5, first_order=not second_order)

    def ours() -> float:
        learner.zero_grad()
        return learner.meta_gradient(episodes)["loss"].item()

    def theirs() -> float:
        peer.zero_grad()
        total = 0.0
        for support_x, support_y, query_x, query_y in zip(*episodes, strict=True):
            clone = peer.clone()
            clone.adapt(F.cross_entropy(clone(support_x.flatten(0, 1)), support_y.flatten()))
            loss = F.cross_entropy(clone(query_x), query_y) / TASKS
            loss.backward()
            total += loss.item()
        return total

    assert ours() == pytest.approx(theirs(), rel=1e-3)
    against(benchmark, ours, theirs)


@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (5, 5)])
def test_svm_head(benchmark, ways, shots):
    """Solve the support set's SVM and differentiate through it, features given."""
    torch.manual_seed(0)
    features = torch.rand(TASKS, ways * shots, 256, requires_grad=True)
    queries = torch.rand(TASKS, 15 * ways, 256)
    labels = torch.arange(ways).repeat_interleave(shots)

    class Given(torch.nn.Module):
        def forward(self, x, rows=None):
            return x.flatten(2)

    learner = MetaOptNet(Given(), ways, initial_scale=1.0)

    def ours() -> torch.Tensor:
        support = features.view(TASKS, ways, shots, 256)
        logits = learner(support, labels.view(ways, shots).expand(TASKS, -1, -1), queries)
        torch.autograd.grad(logits.square().sum(), features)
        return logits

    def theirs() -> torch.Tensor:
        all_logits = []
        for task in range(TASKS):
            classifier = l2l.nn.SVClassifier(features[task], labels, ways=ways, C_reg=0.1)
            logits = classifier(queries[task])
            torch.autograd.grad(logits.square().sum(), features)
            all_logits.append(logits)
        return torch.stack(all_logits)

    torch.testing.assert_close(ours(), theirs(), rtol=0.05, atol=0.05)
    against(benchmark, ours, theirs)
