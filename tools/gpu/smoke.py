"""``python -m tools.gpu.smoke``: does a GPU compute what the CPU computes in float64?

It compares the outer gradients of all learners, episodes and augmentation bit by bit, CUDA graphs
with eager steps, fused optimizers with plain ones, evaluation, MetaOptNet's solver, and repeated
runs with deterministic=true; and checks that no step synchronises with the device. Without a GPU,
the CPU takes its place, which tests the checks themselves.
"""

import argparse
import copy
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bench.core import process

process.configure()  # before torch is imported

import torch
from torch import Tensor

from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.resnet12 import ResNet12
from algorithms.learner import Learner, Setting, TaskBatch
from algorithms.maml import MAML
from algorithms.matchingnet import MatchingNet
from algorithms.metaoptnet import MetaOptNet
from algorithms.protomaml import ProtoMAML
from algorithms.protonet import ProtoNet
from algorithms.r2d2 import R2D2
from algorithms.reptile import Reptile
from algorithms.solvers.svm import crammer_singer, kkt_residual, linear_kernel
from bench.check.tasks import random_episodes
from bench.config.schema import Precision
from bench.engine import device as devices
from bench.engine import precision, train
from bench.engine.energy import joules
from bench.engine.evaluate import evaluate, to_float
from bench.engine.memory import choose_chunk_size
from bench.tasks.classification.augmentation import Augmentation
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool
from tests.bench.small import PLAIN
from tools.gpu.checks import Check, run

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
CPU = torch.device("cpu")
WAYS, TASKS, STEPS = 5, 4, 8


def conv4(filters: int = 64, stride: bool = True) -> Conv4:
    """Return a Conv4 for grey images of 28 x 28 pixels."""
    return Conv4((1, 28, 28), filters=filters, downsample="stride" if stride else "pool")


def resnet12(drop_rate: float) -> ResNet12:
    """Return a small ResNet-12 for grey images of 28 x 28 pixels."""
    return ResNet12((1, 28, 28), filters=16, drop_rate=drop_rate)


LEARNERS: dict[str, tuple[Callable[[], Learner], int, int]] = {  # with shots and queries
    "maml": (lambda: MAML(conv4(), WAYS, norm_statistics="all_queries"), 1, 15),
    "maml, by support": (lambda: MAML(conv4(32, False), WAYS), 1, 5),
    "maml, 5 steps": (
        lambda: MAML(conv4(), WAYS, norm_statistics="all_queries", inner_steps=5),
        1,
        5,
    ),
    "fomaml": (
        lambda: MAML(conv4(), WAYS, norm_statistics="all_queries", second_order=False),
        1,
        15,
    ),
    "fomaml, by support": (lambda: MAML(conv4(32, False), WAYS, second_order=False), 1, 5),
    "metasgd": (lambda: MAML(conv4(), WAYS, learn_inner_lr="per_weight"), 1, 5),
    "anil": (lambda: MAML(conv4(32, False), WAYS, adapts="head", inner_steps=5), 1, 5),
    "protomaml": (lambda: ProtoMAML(conv4(32), WAYS), 1, 5),
    "reptile": (lambda: Reptile(conv4(), WAYS), 10, 0),
    "reptile, sgd": (
        lambda: Reptile(conv4(), WAYS, inner_optimizer="sgd", inner_lr=0.1),
        10,
        0,
    ),
    "protonet": (lambda: ProtoNet(conv4(64, False), WAYS), 1, 15),
    "matchingnet": (lambda: MatchingNet(conv4(64, False), WAYS), 1, 15),
    "metaoptnet": (lambda: MetaOptNet(conv4(64, False), WAYS), 5, 6),
    "metaoptnet, ridge": (lambda: MetaOptNet(conv4(64, False), WAYS, head="ridge"), 5, 6),
    "r2d2": (lambda: R2D2(conv4(64, False), WAYS, learn_lambda=True), 5, 6),
    "protonet, resnet12": (lambda: ProtoNet(resnet12(0.0), WAYS), 1, 5),
    "protonet, dropping": (lambda: ProtoNet(resnet12(0.3), WAYS), 1, 5),
}
DROPPING = "protonet, dropping"
"""Its dropout masks are hashes of pixels, which differ in float64: its gradient is not compared."""
RECIPES = {
    "adam": {"optimizer": "adam", "weight_decay": 0.1, "lr": 0.001},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "lr": 0.01},
}
BOUNDS = {"fp32": 0.02, "tf32": 0.2, "bf16": 0.35}
"""Maximum relative error of an outer gradient.

ReLU, pooling and Adam turn rounding errors into jumps.
"""


def learner_of(name: str) -> Learner:
    """Return a learner with a fixed initialisation, in training mode."""
    torch.manual_seed(0)
    return LEARNERS[name][0]().train()


def episodes_of(name: str, dtype: torch.dtype, device: torch.device) -> TaskBatch:
    """Return random episodes with the shots and queries of a learner."""
    _, shots, queries = LEARNERS[name]
    parts = random_episodes(TASKS, WAYS, shots, queries, size=28)
    return TaskBatch(*(p.to(device, dtype if p.is_floating_point() else p.dtype) for p in parts))


def outer_gradient(learner: Learner, episodes: TaskBatch) -> Tensor:
    """Return loss, gradients and running statistics of a step, as one float64 vector."""
    loss = learner.meta_gradient(episodes)["loss"]
    found = [p.grad for p in learner.parameters() if p.grad is not None]
    found += [b for b in learner.buffers() if b.is_floating_point()]
    return torch.cat([loss.flatten(), *(each.flatten() for each in found)]).double().cpu()


@cache
def exact(name: str) -> Tensor:
    """Return the reference of `outer_gradient`, computed on the CPU in float64."""
    precision.apply("fp32", learner := learner_of(name).double())
    return outer_gradient(learner, episodes_of(name, torch.float64, CPU))


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the relative error in the Euclidean norm."""
    return float((found - expected).norm() / expected.norm())


def gradient(name: str, kind: Precision) -> tuple[bool, str]:
    """Compare the outer gradient on the device with that of the CPU in float64."""
    expected = exact(name)
    learner = learner_of(name).to(DEVICE)
    precision.apply(kind, learner)
    error = relative(outer_gradient(learner, episodes_of(name, torch.float32, DEVICE)), expected)
    precision.apply("fp32", learner)
    return error < BOUNDS[kind], f"relative error {error:.1e}"


def pool_of(channels: int, size: int) -> Pool:
    """Return a pool of 60 classes of 20 random images each."""
    generator = torch.Generator().manual_seed(0)
    shape = (1200, channels, size, size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return Pool(images, torch.arange(61) * 20, tuple(map(str, range(60))))


def episodes() -> tuple[bool, str]:
    """Compare episodes and augmentation on the CPU and the device.

    Jitter is computed in float32, whose last bit may change the rounding of a byte.
    """
    samplers = [
        EpisodeSampler(pool_of(3, 32).to(device), Setting(20, 5, 10), ("t",))
        for device in (CPU, DEVICE)
    ]
    same = samplers[0].digest(2000) == samplers[1].digest(2000)
    drawn = [sampler.draw(1000, 8) for sampler in samplers]
    same &= all(torch.equal(a, b.cpu()) for a, b in zip(*drawn, strict=True))
    augmented = Augmentation.of(samplers[0].key, 4, True, 0.4)
    here, there = (augmented(each, 1000).query_x.cpu().int() for each in drawn)
    apart = (here - there).abs()
    share, most = (apart > 0).double().mean().item(), int(apart.max())
    return same and most <= 1 and share < 1e-3, (
        f"{'equal' if same else 'OTHER'}; augmented, {share:.1e} of bytes differ, by {most} at most"
    )


def loop_of(name: str, recipe: str = "adam") -> train.OuterLoop:
    """Return the outer loop of a learner on the device, with one of `RECIPES`."""
    _, shots, queries = LEARNERS[name]
    plan = train.Train.model_validate(
        {"examples": 10**6, "meta_batch": 8, "ways": None, "shots": None, "queries": queries}
        | PLAIN | {"lr_schedule": "cosine"} | RECIPES[recipe]
    )  # fmt: skip
    sampler = EpisodeSampler(pool_of(1, 28).to(DEVICE), Setting(WAYS, shots, queries), ("t",))
    return train.OuterLoop(learner_of(name).to(DEVICE), sampler, plan)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Disable the capture of CUDA graphs in the context."""
    before = train.can_record
    train.can_record = lambda learner, device: False
    try:
        yield
    finally:
        train.can_record = before


@contextmanager
def unwaited() -> Iterator[None]:
    """Make torch raise on any synchronisation with a CUDA device in the context."""
    if not CUDA:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def trained(loop: train.OuterLoop) -> Tensor:
    """Return the losses of `STEPS` steps and the state after them, as one vector."""
    losses = [loop.advance()["loss"] for _ in range(STEPS)]
    state = [value.flatten().double() for value in loop.learner.state_dict().values()]
    return torch.cat([torch.stack(losses).double(), *state]).cpu()


def graph(name: str, recipe: str) -> tuple[bool, str]:
    """Compare steps of a CUDA graph with eager ones.

    Both are deterministic: Adam's first steps are signs of gradients, including rounding errors.
    """
    devices.use_deterministic(True)
    try:
        with unrecorded():
            plain = trained(loop_of(name, recipe))
        loop = loop_of(name, recipe)
        error = relative(trained(loop), plain)
    finally:
        devices.use_deterministic(False)
    recorded = loop._apply != loop._eager
    return (recorded or not CUDA) and error < 1e-4, f"recorded: {recorded}, apart {error:.1e}"


def repeated(name: str) -> tuple[bool, str]:
    """Check that two deterministic runs give the same bits."""
    devices.use_deterministic(True)
    try:
        same = torch.equal(trained(loop_of(name)), trained(loop_of(name)))
    finally:
        devices.use_deterministic(False)
    return same, "the same bits" if same else "OTHER bits"


def optimizer(name: str, recipe: str) -> tuple[bool, str]:
    """Compare a step of the fused optimizer with a plain one.

    A fused optimizer is silently wrong if gradients and parameters differ in memory layout.
    """
    loop = loop_of(name, recipe)
    learner = copy.deepcopy(loop.learner)
    parameters = [p for p in learner.parameters() if p.requires_grad]
    options = {"lr": loop.train.lr, "weight_decay": loop.train.weight_decay, "foreach": False}
    plain: torch.optim.Optimizer = torch.optim.Adam(parameters, fused=False, **options)
    if recipe == "nesterov":
        plain = torch.optim.SGD(parameters, momentum=0.9, nesterov=True, fused=False, **options)
    before = torch.cat([p.detach().flatten() for p in parameters])
    loop.advance()
    learner.meta_gradient(to_float(loop.draw(0)))
    plain.step()
    ours, theirs = (
        torch.cat([p.detach().flatten() for p in each]) - before
        for each in (loop.parameters, parameters)
    )
    wrong = ((ours - theirs).abs() > 0.2 * theirs.abs().max()).double().mean().item()
    return wrong < 0.02, f"{wrong:.2%} of the parameters moved otherwise"


def waits(name: str, augmented: bool) -> tuple[bool, str]:
    """Check that neither steps nor draws synchronise with the device."""
    loop = loop_of(name)
    if augmented:
        loop.augmented = Augmentation.of(loop.source.key, 2, True, 0.4)
    with unrecorded():
        for _ in range(2):
            loop.advance()
        devices.synchronize(DEVICE)
        with unwaited():
            for _ in range(2):
                loop.advance()
    return True, "no wait"


def evaluation(name: str) -> tuple[bool, str]:
    """Compare the losses of evaluation on the CPU and the device."""
    losses = []
    for device in (CPU, DEVICE):
        sampler = EpisodeSampler(pool_of(1, 28).to(device), Setting(WAYS, 1, 5), ("e",))
        losses.append(evaluate(learner_of(name).to(device), sampler, 20, 10).loss)
    gap = (losses[0] - losses[1]).abs().max().item()
    return gap < 1e-2, f"losses of 20 episodes apart by {gap:.1e} at most"


def solver(ways: int, shots: int) -> tuple[bool, str]:
    """Check the SVM solver on the device: its KKT residual, and its gradient against the CPU's."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(8, ways * shots, 800, generator=generator, dtype=torch.float64)
    labels = torch.eye(ways, dtype=torch.float64).repeat_interleave(shots, 0).expand(8, -1, -1)
    slopes = torch.linspace(-1, 1, labels.numel(), dtype=torch.float64).view(labels.shape)
    found = []
    for device in (CPU, DEVICE):
        x = features.to(device).requires_grad_()
        z = crammer_singer(linear_kernel(x), labels.to(device))
        (by_x,) = torch.autograd.grad((z * slopes.to(device)).sum(), x)
        found.append((z.detach().cpu(), by_x.cpu()))
    residual = kkt_residual(linear_kernel(features), labels, found[1][0]).max().item()
    apart = max(relative(b, a) for a, b in zip(*found, strict=True))
    return residual < 1e-10 and apart < 1e-6, f"KKT {residual:.1e}, apart {apart:.1e}"


def energy() -> tuple[bool, str]:
    """Check that the energy counter of the device increases under load."""
    before, start = joules(DEVICE), time.monotonic()
    matrix = torch.rand(4096, 4096, device=DEVICE)
    while time.monotonic() - start < 1:
        matrix @ matrix
        devices.synchronize(DEVICE)
    after, seconds = joules(DEVICE), time.monotonic() - start
    if before is None or after is None:
        return False, "nobody counts"
    return after > before, f"{(after - before) / seconds:.0f} W in products of matrices"


def memory() -> tuple[bool, str]:
    """Check that 32 or more tasks of MAML fit into one chunk on the GPU."""
    episode = TaskBatch(*(part[:1] for part in episodes_of("maml", torch.float32, DEVICE)))
    count = choose_chunk_size(learner_of("maml").to(DEVICE), episode)
    return count >= 32 or not CUDA, f"{count} tasks of MAML at once"


def checks() -> dict[str, Check]:
    """Return all checks by name, the most informative first."""
    found: dict[str, Check] = {"memory": memory, "episodes": episodes}

    def add(check: Callable[..., tuple[bool, str]], *given: object) -> None:
        found[f"{check.__name__}: {', '.join(map(str, given))}"] = lambda: check(*given)

    compared = [name for name in LEARNERS if name != DROPPING]
    for name in compared:
        add(gradient, name, "fp32")
    for name in LEARNERS:
        add(waits, name, False)
    add(waits, "protonet", True)
    for name in LEARNERS:
        add(graph, name, "adam")
    add(graph, "protonet", "nesterov")
    for name in ("maml", "protonet", "metaoptnet", "protonet, resnet12"):
        for recipe in RECIPES:
            add(optimizer, name, recipe)
    for ways, shots in ((5, 1), (5, 5), (5, 15), (20, 5)):
        add(solver, ways, shots)
    for name in ("maml", "reptile", "protonet", "metaoptnet"):
        add(evaluation, name)
        add(repeated, name)
    if CUDA:
        for name in compared:
            add(gradient, name, "tf32")
            if learner_of(name).order == 1:
                add(gradient, name, "bf16")
        found["energy"] = energy
    return found


def main() -> int:
    """Run the checks and return 1 if one failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu.smoke", description=__doc__)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--only", default="", help="checks with this in their name")
    given = parser.parse_args()
    logging.getLogger("bench.engine.train").setLevel(logging.ERROR)
    print(f"{devices.describe(DEVICE)}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    chosen = {name: check for name, check in checks().items() if given.only in name}
    return int(not run(chosen, given.seconds, Path(os.environ.get("OUT", ".")) / "smoke.json"))


if __name__ == "__main__":
    sys.exit(main())
