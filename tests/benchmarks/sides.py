"""Both sides of each comparison: what is timed of ours and of learn2learn 0.2.0, by name.

Weights and episodes are random; the network is the strided Conv-4 with 64 filters, on images of 28x28.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Learner, Setting, TaskBatch
from algorithms.metaoptnet import MetaOptNet
from bench.check.tasks import random_episodes
from bench.engine.memory import choose_chunk_size
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool
from tests.algorithms.peers import pair

BATCH = {"norm_statistics": "all_queries"}
# Rates that float32 holds exactly, as the check is in float64.
SECOND = {"inner_lr": 0.5}
FIRST = {"inner_lr": 0.5, "second_order": False}
FIVE = {"inner_lr": 0.125, "inner_steps": 5}
# Learner, options of both, options of ours, shape of an episode, tasks of a meta-batch, and tasks
# that must give equal gradients: one where ours shares batch norm (or Adam) among tasks.
STEPS = {
    "MAML, 1 step, 2nd order": ("maml", SECOND, BATCH, Setting(5, 1, 15), 32, 2),
    "MAML, 1 step, 1st order": ("maml", FIRST, BATCH, Setting(5, 1, 15), 32, 2),
    "MAML, 5 steps, 2nd order": ("maml", FIVE, BATCH, Setting(5, 1, 15), 32, 2),
    "MAML, 1 step, 2nd order, 1 query": ("maml", SECOND, BATCH, Setting(5, 1, 1), 32, 2),
    "MAML, 1 step, 1st order, 1 query": ("maml", FIRST, BATCH, Setting(5, 1, 1), 32, 2),
    "MAML, 5 steps, 2nd order, 1 query": ("maml", FIVE, BATCH, Setting(5, 1, 1), 32, 2),
    "Reptile, 5 Adam steps of 10 images": ("reptile", {}, BATCH, Setting(5, 10, 0), 5, 1),
    "ProtoNet": ("protonet", {}, {}, Setting(5, 1, 15), 16, 1),
    "ProtoNet, 20w5s": ("protonet", {}, {}, Setting(20, 5, 15), 4, 1),
    "MetaOptNet": ("metaoptnet", {}, {}, Setting(5, 1, 15), 16, 1),
}
PEER_TASKS = 8
"""Tasks of the peer's meta-batch at most: it takes them one after the other, however many."""
SVM = {
    "SVM, solve and backward, 5w1s": Setting(5, 1, 15),
    "SVM, solve and backward, 5w5s": Setting(5, 5, 15),
}
DRAWING = {
    f"drawing episodes, {ways}w{shots}s, 15 queries": Setting(ways, shots, 15)
    for ways, shots in ((5, 1), (5, 5), (20, 1))
}


class Sides(NamedTuple):
    """A call of each side, and the tasks that it does."""

    ours: Callable[[], object]
    peer: Callable[[], object]
    our_tasks: int
    peer_tasks: int


def sides(name: str, device: torch.device) -> Sides:
    """Return both sides of the comparison of that name, for as many threads as torch uses now."""
    if name in STEPS:
        return outer_gradients(name, device)
    if name in SVM:
        return svm_heads(SVM[name], device)
    return draws(DRAWING[name], device)


def strided() -> Conv4:
    return Conv4((1, 28, 28), filters=64, downsample="stride")


def outer_gradients(name: str, device: torch.device) -> Sides:
    """A whole outer gradient: the inner loops, the losses, and back."""
    algo, options, own, shape, tasks, _ = STEPS[name]
    ours, theirs = (each.to(device) for each in pair(algo, strided, shape.ways, options, own))
    drawn = [
        part.to(device, torch.float32 if part.is_floating_point() else part.dtype)
        for part in random_episodes(tasks, *shape, size=28)
    ]
    episodes, few = TaskBatch(*drawn), TaskBatch(*(part[:PEER_TASKS] for part in drawn))
    ours.chunk_size = choose_chunk_size(ours, TaskBatch(*(part[:1] for part in drawn)))

    def step(learner: Learner, episodes: TaskBatch) -> None:
        learner.zero_grad()
        learner.meta_gradient(episodes)

    return Sides(lambda: step(ours, episodes), lambda: step(theirs, few), tasks, len(few.support_x))


def svm_heads(shape: Setting, device: torch.device) -> Sides:
    """Solve the support set's SVM and differentiate through it, features of 1600 numbers given."""
    import learn2learn as l2l

    tasks, size = 32, 1600
    ways, shots, count = shape
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(tasks, ways * shots, size, generator=generator).to(device)
    features.requires_grad_()
    queries = torch.rand(tasks, count * ways, size, generator=generator).to(device)
    labels = torch.arange(ways, device=device).repeat_interleave(shots)

    class Given(torch.nn.Module):
        def forward(self, x, stats_from=None):
            return x.flatten(2)

    learner = MetaOptNet(Given(), ways, initial_scale=1.0).to(device)

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

    return Sides(ours, theirs, tasks, tasks)


def draws(shape: Setting, device: torch.device) -> Sides:
    """Episodes of uint8 images, 32 a call; learn2learn draws with its fused transform."""
    import learn2learn as l2l

    images = torch.randint(0, 256, (20_000, 1, 28, 28), dtype=torch.uint8, device=device)
    offsets = torch.arange(1001, device=device) * 20
    pool = Pool(images, offsets, tuple(map(str, range(1000))))
    sampler = EpisodeSampler(pool, shape, ("speed",))
    owner = torch.repeat_interleave(torch.arange(1000), 20).tolist()

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(owner)

        def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
            return images[row], owner[row]

    data = l2l.data.MetaDataset(
        Images(),
        indices_to_labels=dict(enumerate(owner)),
        labels_to_indices={c: list(range(20 * c, 20 * c + 20)) for c in range(1000)},
    )
    transforms = l2l.data.transforms
    taskset = l2l.data.Taskset(
        data,
        task_transforms=[
            transforms.FusedNWaysKShots(data, n=shape.ways, k=shape.shots + shape.queries),
            transforms.LoadData(data),
            transforms.RemapLabels(data),
        ],
    )
    number = iter(range(0, 10**12, 3200))

    def ours() -> TaskBatch:
        first = next(number)
        for call in range(100):
            drawn = sampler.draw(first + call * 32, 32)
        return drawn

    def peer() -> tuple[torch.Tensor, torch.Tensor]:
        for _ in range(100):
            drawn = taskset.sample()
        return drawn

    return Sides(ours, peer, 3200, 100)
