"""Speed against learn2learn 0.2.0, in the same run, on the same machine, shapes and weights.

``pytest tests/benchmarks --benchmark-enable`` ends with the table of ratios. Each comparison checks
first that both sides do the same; without ``--benchmark-enable`` that is all. Weights and episodes
are random; the network is the strided Conv-4 with 64 filters, on images of 28x28.
"""

import copy

import pytest
import torch

from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Episodes, Learner, Shape
from algorithms.metaoptnet import MetaOptNet
from bench.check.tasks import random_episodes
from bench.data.episodes import EpisodeSampler
from bench.data.pool import Pool
from bench.memory import tasks_at_once
from tests.algorithms.peers import pair

l2l = pytest.importorskip("learn2learn")

BATCH = {"statistics": "queries"}
# Rates that float32 holds exactly, as the comparison is in float64.
SECOND = {"inner_rate": 0.5}
FIRST = {"inner_rate": 0.5, "second_order": False}
FIVE = {"inner_rate": 0.125, "inner_steps": 5}
# Learner, options of both, options of ours, shape of an episode, tasks of a meta-batch, and tasks
# that must give equal gradients: one where ours shares batch norm (or Adam) among tasks.
STEPS = {
    "MAML, 1 step, 2nd order": ("maml", SECOND, BATCH, Shape(5, 1, 15), 32, 2),
    "MAML, 1 step, 1st order": ("maml", FIRST, BATCH, Shape(5, 1, 15), 32, 2),
    "MAML, 5 steps, 2nd order": ("maml", FIVE, BATCH, Shape(5, 1, 15), 32, 2),
    "MAML, 1 step, 2nd order, 1 query": ("maml", SECOND, BATCH, Shape(5, 1, 1), 32, 2),
    "MAML, 1 step, 1st order, 1 query": ("maml", FIRST, BATCH, Shape(5, 1, 1), 32, 2),
    "MAML, 5 steps, 2nd order, 1 query": ("maml", FIVE, BATCH, Shape(5, 1, 1), 32, 2),
    "Reptile, 5 Adam steps of 10 images": ("reptile", {}, BATCH, Shape(5, 10, 0), 5, 1),
    "ProtoNet": ("protonet", {}, {}, Shape(5, 1, 15), 16, 1),
    "ProtoNet, 20w5s": ("protonet", {}, {}, Shape(20, 5, 15), 4, 1),
    "MetaOptNet": ("metaoptnet", {}, {}, Shape(5, 1, 15), 16, 1),
}


def strided() -> Conv4:
    return Conv4((1, 28, 28), filters=64, downsample="stride")


def in_double(learner: Learner, episodes: Episodes) -> list[torch.Tensor]:
    """The loss and the gradients of a copy in float64."""
    learner = copy.deepcopy(learner).double()
    loss = learner.meta_gradient(episodes)["loss"]
    return [loss, *(p.grad for n, p in learner.named_parameters() if n != "inner_rates")]


@pytest.mark.parametrize("name", STEPS)
def test_outer_gradient(against, name):
    """A whole outer gradient: the inner loops, the losses, and back."""
    algo, options, own, shape, tasks, alike = STEPS[name]
    ours, theirs = pair(algo, strided, shape.ways, options, own)
    episodes = random_episodes(tasks, *shape, size=28)
    few = Episodes(*(part[:alike] for part in episodes))
    if algo != "metaoptnet":  # that peer wants float64 as default: test_learn2learn.py compares
        torch.testing.assert_close(
            in_double(ours, few), in_double(theirs, few), rtol=1e-8, atol=1e-8
        )

    episodes = Episodes(*(p.float() if p.is_floating_point() else p for p in episodes))
    ours.tasks_at_once = tasks_at_once(ours, Episodes(*(part[:1] for part in episodes)))

    def step(learner: Learner) -> None:
        learner.zero_grad()
        learner.meta_gradient(episodes)

    against(name, lambda: step(ours), lambda: step(theirs), tasks)


@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (5, 5)])
def test_svm_head(against, ways, shots):
    """Solve the support set's SVM and differentiate through it, features of 1600 numbers given."""
    tasks, size = 32, 1600
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(tasks, ways * shots, size, generator=generator, requires_grad=True)
    queries = torch.rand(tasks, 15 * ways, size, generator=generator)
    labels = torch.arange(ways).repeat_interleave(shots)

    class Given(torch.nn.Module):
        def forward(self, x, rows=None):
            return x.flatten(2)

    learner = MetaOptNet(Given(), ways, initial_scale=1.0)

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        support = features.view(tasks, ways, shots, size)
        logits = learner(support, labels.view(ways, shots).expand(tasks, -1, -1), queries)
        return logits, torch.autograd.grad(logits.square().sum(), features)[0]

    def theirs() -> tuple[torch.Tensor, torch.Tensor]:
        each = []
        gradient = torch.zeros_like(features)
        for task in range(tasks):
            classifier = l2l.nn.SVClassifier(features[task], labels, ways=ways, C_reg=0.1)
            logits = classifier(queries[task])
            gradient += torch.autograd.grad(logits.square().sum(), features)[0]
            each.append(logits.detach())
        return torch.stack(each), gradient

    for mine, other in zip(ours(), theirs(), strict=True):  # float32 leaves qpth 3 % off
        torch.testing.assert_close(mine, other, rtol=0.05, atol=0.05 * other.abs().max().item())
    against(f"SVM, solve and backward, {ways}w{shots}s", ours, theirs, tasks)


def random_pool(classes: int = 1000, size: int = 20) -> Pool:
    images = torch.randint(0, 256, (classes * size, 1, 28, 28), dtype=torch.uint8)
    return Pool(images, torch.arange(classes + 1) * size, tuple(map(str, range(classes))))


@pytest.mark.parametrize("shape", [Shape(5, 1, 15), Shape(5, 5, 15), Shape(20, 1, 15)], ids=str)
def test_drawing_episodes(against, shape):
    """Episodes of uint8 images, 32 a call; learn2learn draws with its fused transform."""
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
    drawn = sampler.draw(0, 32)
    assert drawn.support_x.shape == (32, shape.ways, shape.shots, 1, 28, 28)
    images, labels = tasks.sample()
    assert len(images) == len(labels) == shape.ways * (shape.shots + shape.queries)

    number = iter(range(0, 10**9, 3200))

    def ours() -> None:
        first = next(number)
        for call in range(100):
            sampler.draw(first + call * 32, 32)

    def peer() -> None:
        for _ in range(100):
            tasks.sample()

    name = f"drawing episodes, {shape.ways}w{shape.shots}s, {shape.queries} queries"
    against(name, ours, peer, our_tasks=3200, peer_tasks=100)
