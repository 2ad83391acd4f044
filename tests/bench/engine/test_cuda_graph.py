"""Training steps as CUDA graphs: what a graph would do, acted out on the CPU, and the real one."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from algorithms.backbones import Backbone
from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.resnet12 import ResNet12
from algorithms.baselinepp import BaselinePP
from algorithms.learner import Setting, TaskBatch
from algorithms.maml import MAML
from algorithms.metaoptnet import MetaOptNet
from algorithms.protomaml import ProtoMAML
from algorithms.protonet import ProtoNet
from algorithms.r2d2 import R2D2
from algorithms.reptile import Reptile
from algorithms.solvers import svm
from bench.config.schema import Train
from bench.engine import device as devices
from bench.engine import train
from bench.engine.cuda_graph import record
from bench.engine.distributed import SINGLE_PROCESS, ProcessGroup
from bench.engine.evaluate import to_float
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool
from tests.bench.small import PLAIN

LEARNERS = {
    "maml": (MAML, {}),
    "maml, learned rates, first order": (MAML, {"learn_inner_lr": True, "second_order": False}),
    "anil": (MAML, {"adapts": "head", "inner_steps": 2}),
    "metasgd": (MAML, {"learn_inner_lr": "per_weight"}),
    "protomaml": (ProtoMAML, {}),
    "reptile": (Reptile, {}),
    "reptile, sgd": (Reptile, {"inner_optimizer": "sgd"}),
    "protonet": (ProtoNet, {}),
    "protonet, dropping": (ProtoNet, {}),
    "metaoptnet": (MetaOptNet, {}),
    "metaoptnet, ridge": (MetaOptNet, {"head": "ridge"}),
    "r2d2": (R2D2, {"learn_lambda": True}),
    "baselinepp": (BaselinePP, {}),
}
OPTIMIZERS = {
    "adam": {"optimizer": "adam", "weight_decay": 0.1},
    "sgd": {"optimizer": "sgd"},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
}
WAITS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}


class Tape(TorchDispatchMode):
    """Notes the operators that are run, with the very tensors that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in WAITS, f"{func} waits for the device"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, tree_flatten(out)[0]))
        return out

    def play(self) -> None:
        """Run the same operators on the same memory, whatever now is in it."""
        for func, args, kwargs, places in self.calls:
            results = tree_flatten(func(*args, **kwargs))[0]
            for place, result in zip(places, results, strict=True):
                if isinstance(place, torch.Tensor) and place is not result:
                    place.copy_(result)


def acted_out(loop: train.OuterLoop):
    """`cuda_graph.record` for the CPU. Like it, it leaves what the step would change as it was."""

    def recorded(step, episodes):
        static = TaskBatch(*(part.clone() for part in episodes))
        state = [*loop.learner.state_dict().values()]
        state += [v for each in loop.optimizer.state.values() for v in each.values()]
        before = [value.clone() for value in state]
        with Tape() as tape:
            metrics = step(static)
        for value, old in zip(state, before, strict=True):
            value.detach().copy_(old)

        def replay(episodes):
            for place, part in zip(static, episodes, strict=True):
                place.copy_(part)
            with torch.no_grad():
                tape.play()
            return {name: value.clone() for name, value in metrics.items()}

        return replay

    return recorded


def loop_of(
    name: str, device: str = "cpu", optimizer: str = "adam", world: ProcessGroup = SINGLE_PROCESS
) -> train.OuterLoop:
    make, options = LEARNERS[name]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (120, 1, 16, 16), dtype=torch.uint8, generator=generator)
    pool = Pool.of({str(c): images[12 * c : 12 * c + 12] for c in range(10)})
    queries = 2 if make.uses_query_loss else 0
    torch.manual_seed(0)
    backbone: Backbone = Conv4((1, 16, 16), downsample="pool", filters=4)
    if "dropping" in name:
        backbone = ResNet12((1, 16, 16), filters=1, drop_rate=0.3, drop_steps=4)
    learner = make(backbone, 10 if make.trains_classifier else 3, **options)
    plan = Train(
        examples=5 * 2 * 3 * (2 + queries), meta_batch=2, ways=None, shots=None, queries=queries,
        **PLAIN | {"lr_schedule": "cosine"} | OPTIMIZERS[optimizer],
    )  # fmt: skip
    sampler = EpisodeSampler(pool.to(device), Setting(3, 2, queries), ("t",))
    return train.OuterLoop(learner.to(device).train(), sampler, plan, world)


def trained(loop: train.OuterLoop) -> list[torch.Tensor]:
    """The losses of a whole training, and the state at its end."""
    losses = [loop.advance()["loss"] for _ in range(loop.steps)]
    return [torch.stack(losses), *loop.learner.state_dict().values()]


@pytest.mark.parametrize(
    ("name", "optimizer"), [(n, o) for n in LEARNERS for o in ("adam", "sgd") if "drop" not in n]
    + [("protonet", "nesterov")],
)  # fmt: skip
def test_a_step_is_that_of_the_plain_optimizer(name, optimizer):
    """Fused optimizers are fast where all tensors lie in memory alike, and silently wrong elsewhere."""
    loop = loop_of(name, optimizer=optimizer)
    learner = copy.deepcopy(loop.learner)
    parameters = [p for p in learner.parameters() if p.requires_grad]
    options = {"lr": loop.train.lr, "foreach": False, "fused": False}
    plain = {
        "adam": lambda: torch.optim.Adam(parameters, weight_decay=0.1, **options),
        "sgd": lambda: torch.optim.SGD(parameters, **options),
        "nesterov": lambda: torch.optim.SGD(
            parameters, momentum=0.9, nesterov=True, weight_decay=0.1, **options
        ),
    }[optimizer]()
    noise = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in learner.named_parameters()}
    for step in range(2):
        plain.param_groups[0]["lr"] = loop.train.lr * (1, 0.904508497187)[step]  # a cosine
        loop.advance()
        plain.zero_grad()
        episodes = loop.source.draw(2 * step, 2)
        learner.meta_gradient(to_float(episodes))
        for name, p in learner.named_parameters():
            if p.grad is not None:
                noise[name] |= p.grad.abs() < 1e-6  # Adam takes full steps along rounding errors
        plain.step()
    assert sum(each.sum() for each in noise.values()) < 0.01 * sum(map(torch.numel, noise.values()))
    for name, p in loop.learner.named_parameters():
        expected = torch.where(noise[name], p, learner.get_parameter(name))
        torch.testing.assert_close(p, expected, msg=name)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*((name, "adam") for name in LEARNERS), ("reptile", "sgd"), ("protonet", "nesterov")],
)
def test_a_step_is_the_same_operators_on_the_same_memory(name, optimizer, monkeypatch):
    """So a replay is the training itself, to the bit, though the rate and all counters move."""
    monkeypatch.setattr(svm, "SYNC_FREE_DEVICES", ())
    plain = trained(loop_of(name, optimizer=optimizer))
    check_replay(loop_of(name, optimizer=optimizer), plain, monkeypatch)


@pytest.mark.parametrize("name", ["maml", "reptile", "protonet"])
def test_a_step_that_processes_share_is_recorded_up_to_its_gradient(name, monkeypatch):
    class Half(ProcessGroup):
        def all_reduce(self, tensor):
            """No other process adds anything."""

    half = Half(0, 2)
    check_replay(loop_of(name, world=half), trained(loop_of(name, world=half)), monkeypatch)


def check_replay(loop, plain, monkeypatch):
    monkeypatch.setattr(train, "can_record", lambda learner, device: learner.supports_cuda_graph)
    monkeypatch.setattr(train, "record", acted_out(loop))
    replayed = trained(loop)
    assert loop._apply != loop._eager, "it was recorded"
    for one, other in zip(plain, replayed, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_step_that_cannot_be_recorded_is_run_as_it_is(monkeypatch, caplog):
    def fails(step, episodes):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    plain = trained(loop_of("protonet"))
    monkeypatch.setattr(train, "can_record", lambda learner, device: True)
    monkeypatch.setattr(train, "record", fails)
    with caplog.at_level(logging.WARNING):
        unrecorded = trained(loop_of("protonet"))
    assert caplog.messages == [
        "Training goes on without a CUDA graph, slower: "
        "operation not permitted when stream is capturing"
    ]
    assert all(torch.equal(a, b) for a, b in zip(plain, unrecorded, strict=True))


def test_steps_are_recorded_on_cuda_alone_where_the_learner_allows_it():
    for device, allowed in (("cuda", True), ("cuda", False), ("cpu", True)):
        learner = SimpleNamespace(supports_cuda_graph=allowed)
        recorded = train.can_record(learner, torch.device(device))
        assert recorded == (device == "cuda" and allowed)


@pytest.fixture
def deterministic():
    devices.use_deterministic(True)
    yield
    devices.use_deterministic(False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", LEARNERS)
def test_a_cuda_graph_trains_as_the_operators_do(name, monkeypatch, caplog, deterministic):
    """Adam's first steps are the signs of gradients, in which the bits must be the same."""
    graphs = trained(loop_of(name, "cuda"))
    assert not caplog.messages, "it was recorded"
    monkeypatch.setattr(train, "can_record", lambda learner, device: False)
    plain = trained(loop_of(name, "cuda"))
    for one, other in zip(plain, graphs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_recording_does_not_run_the_step():
    total = torch.zeros((), device="cuda")
    episodes = TaskBatch(*(torch.ones(2, device="cuda") for _ in range(5)))

    def step(episodes):
        return {"loss": total.add_(episodes.query_x.sum())}

    step(episodes)
    replay = record(step, copy.deepcopy(episodes))
    assert total.item() == 2
    assert replay(episodes)["loss"].item() == 4
