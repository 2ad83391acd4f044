"""What CUDA does otherwise than a CPU, acted out on the CPU."""

import contextlib
import gc
import warnings
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from algorithms.backbones import Backbone
from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Setting, TaskBatch
from algorithms.maml import MAML
from algorithms.r2d2 import R2D2
from algorithms.reptile import Reptile
from bench.check.tasks import random_episodes
from bench.engine import cuda_graph as graph
from bench.engine.evaluate import to_float
from bench.engine.train import Training
from bench.tasks.classification.augmentation import Augmentation, constant
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool
from tests.algorithms.test_regression import made as regression
from tests.algorithms.test_regression import tasks
from tests.bench.engine.test_cuda_graph import LEARNERS, loop_of

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def one_thread():
    """A dispatch mode sees the operators of its own thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Cuda(TorchDispatchMode):
    """Operators as CUDA has them: with what it cannot record, and what it leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.convolutions += func is aten.convolution.default
        if func is aten.cholesky_solve.default and args[0][..., 0, 0].numel() > 1:
            raise RuntimeError("MAGMA allocates and waits, which no graph can record")
        if func is aten.native_batch_norm_backward.default and args[2] is None:
            return out[0], args[5].new_empty(0), args[5].new_empty(0)
        return out


@pytest.mark.parametrize("name", LEARNERS)
def test_a_step_asks_for_nothing_that_cuda_does_not_give(name):
    loop = loop_of(name)
    with Cuda():
        loop.advance()


@pytest.mark.parametrize("name", LEARNERS)
def test_a_step_never_reads_a_value(name, monkeypatch):
    """Tensors of the device meta have none: whatever would wait for a GPU raises."""
    monkeypatch.setattr(Backbone, "autocast", lambda self, x: contextlib.nullcontext())
    loop = loop_of(name)
    episodes = TaskBatch(*(part.to("meta") for part in to_float(loop.draw(0))))
    loop.learner.to("meta").meta_gradient(episodes)


@pytest.mark.parametrize("method", [MAML, Reptile, R2D2])
def test_a_step_of_regression_never_reads_a_value(method, monkeypatch):
    monkeypatch.setattr(Backbone, "autocast", lambda self, x: contextlib.nullcontext())
    batch = TaskBatch(*(part.to("meta") for part in tasks()))
    regression(method).to("meta").meta_gradient(batch)


def test_a_second_derivative_has_as_many_convolutions_for_many_tasks():
    counts = set()
    for count in (2, 6):
        learner = MAML(Conv4((1, 16, 16), filters=4), 5).double()
        with Cuda() as cuda:
            learner.meta_gradient(random_episodes(count, 5, 1, 3))
        counts.add(cuda.convolutions)
    assert len(counts) == 1


class Copies(TorchDispatchMode):
    """Counts operators with tensors on several devices."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_flatten((args, kwargs, out))[0] if isinstance(t, torch.Tensor)]
        self.found += len({t.device.type for t in tensors}) > 1
        return out


def test_drawing_and_augmenting_copies_nothing_to_the_device_after_the_first_time():
    images = torch.zeros(60, 3, 16, 16, dtype=torch.uint8)
    pool = Pool(images, torch.arange(0, 61, 10), tuple("abcdef"))
    sampler = EpisodeSampler(pool, Setting(3, 2, 4), ("a",))
    augmented = Augmentation.of(sampler.key, 2, True, 0.4)
    constant.cache_clear()
    with FakeTensorMode():

        def on_cuda(real):
            return torch.empty(real.shape, dtype=real.dtype, device="cuda")

        sampler.pool = replace(pool, inputs=on_cuda(images), offsets=on_cuda(pool.offsets))
        for name, value in vars(sampler).items():
            if isinstance(value, torch.Tensor):
                setattr(sampler, name, on_cuda(value))
        with Copies() as first:
            augmented(sampler.draw(0, 2), 0)
        with Copies() as later:
            augmented(sampler.draw(5000, 2), 5000)
    constant.cache_clear()  # of fake tensors
    assert first.found, "copies are seen"
    assert not later.found


def test_a_saved_training_goes_on_where_the_learner_is():
    """A file is read to the CPU, and losses on two devices cannot be stacked."""
    training = Training(loop_of("protonet"), 1)
    training.losses = [torch.tensor(1.0), torch.tensor(2.0)]
    training.scores = [torch.tensor(0.1), torch.tensor(0.2)]
    state = training.state_dict()
    other = Training(loop_of("protonet"), 1)
    other.loop.lr = other.loop.lr.to("meta")
    other.load_state_dict(state)
    assert len(other.losses) == len(other.scores) == 2
    assert {value.device.type for value in other.losses + other.scores} == {"meta"}


def test_a_saved_training_has_the_losses_of_thousands_of_steps_as_one_tensor():
    training = Training(loop_of("protonet"), 1)
    training.losses = training.scores = [torch.tensor(1.0)] * 3
    state = training.state_dict()
    assert state["losses"].shape == state["scores"].shape == (3,)
    empty = Training(loop_of("protonet"), 1)
    empty.load_state_dict(Training(loop_of("protonet"), 1).state_dict())
    assert empty.losses == empty.scores == []


@pytest.mark.parametrize("name", ["protonet", "reptile"])
def test_steps_before_the_recording_warn_of_nothing(name, monkeypatch):
    """Torch would say of each capturable Adam that it is not captured, unless told not to."""
    loop = loop_of(name)
    gpu = SimpleNamespace(type="cuda", is_capturing=lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: gpu)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    with warnings.catch_warnings(action="error"):
        loop.advance()
        loop.optimizer._warned_capturable_if_run_uncaptured = False
        with pytest.raises(UserWarning, match="without CUDA graph capture"):
            loop.advance()


@pytest.fixture
def cuda_graphs(monkeypatch):
    """`torch.cuda` as far as `cuda_graph` needs it; gives the stream that is current, in a list."""
    stream = ["main"]

    @contextlib.contextmanager
    def recording(graph):
        stream[0] = "of the recording"
        yield
        if graph == "fails":
            raise RuntimeError("the recording cannot be ended")  # before torch goes back
        stream[0] = "main"

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "fails")
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream[0])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda one: stream.__setitem__(0, one))
    return stream


EMPTY = TaskBatch(*(torch.zeros(1) for _ in range(5)))


def test_after_a_recording_that_failed_work_goes_on_on_the_stream_before(cuda_graphs):
    with pytest.raises(RuntimeError, match="cannot be ended"):
        graph.record(lambda episodes: {}, EMPTY)
    assert cuda_graphs == ["main"]


def test_no_old_graph_is_freed_during_a_recording(cuda_graphs, monkeypatch):
    """Loops are cycles, so that their graphs live until they are collected."""

    class Loop:
        pass

    old = Loop()
    old.itself = old
    seen = weakref.ref(old)
    gc.disable()
    try:
        del old
        alive = []
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "works")
        graph.record(lambda episodes: alive.append(seen()) or {}, EMPTY)
    finally:
        gc.enable()
    assert alive == [None]
