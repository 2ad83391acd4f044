"""Rounded arithmetic: where it is, where it is not, and what it does to outer gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.mlp import MLP
from algorithms.learner import TaskBatch
from algorithms.maml import MAML
from algorithms.metaoptnet import MetaOptNet
from algorithms.protonet import ProtoNet
from algorithms.reptile import Reptile
from bench.check.tasks import random_episodes
from bench.core.errors import UserError
from bench.engine import precision

aten = torch.ops.aten
PRODUCTS = {
    aten.convolution.default,
    aten.convolution_backward.default,
    aten.mm.default,
    aten.bmm.default,
    aten.addmm.default,
    aten.baddbmm.default,
}
FIRST_ORDER = {
    "maml": (MAML, {"second_order": False}),
    "reptile": (Reptile, {"inner_optimizer": "sgd"}),
    "protonet": (ProtoNet, {}),
    "metaoptnet": (MetaOptNet, {}),
    "metaoptnet, ridge": (MetaOptNet, {"head": "ridge"}),
}
ALL = FIRST_ORDER | {"maml, second order": (MAML, {}), "maml, 5 steps": (MAML, {"inner_steps": 5})}


class Products(TorchDispatchMode):
    """Notes the types that are multiplied; with ``fraction``, rounds float32 factors to so many bits."""

    def __init__(self, fraction: int | None = None) -> None:
        super().__init__()
        self.fraction = fraction
        self.types = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in PRODUCTS:
            self.types |= {(func, arg.dtype) for arg in args if isinstance(arg, torch.Tensor)}
            if self.fraction:
                args = [
                    rounded(arg, 23 - self.fraction)
                    if isinstance(arg, torch.Tensor) and arg.dtype == torch.float32
                    else arg
                    for arg in args
                ]
        return func(*args, **(kwargs or {}))


def rounded(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Float32 numbers without their last bits, rounded to the nearest."""
    words = x.contiguous().view(torch.int32) + (1 << bits - 1)
    return torch.empty_like(x).copy_((words >> bits << bits).view(torch.float32))


def setting(name: str, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    method, options = ALL[name]
    learner = method(Conv4((1, 28, 28), filters=32, downsample="stride"), 5, **options).to(dtype)
    shots, queries = (10, 0) if method is Reptile else (1, 15)
    episodes = random_episodes(4, 5, shots, queries, size=28)
    return learner, TaskBatch(*(p.to(dtype) if p.is_floating_point() else p for p in episodes))


def outer_gradient(learner, episodes: TaskBatch) -> torch.Tensor:
    learner.zero_grad()
    learner.meta_gradient(episodes)
    gradients = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
    return torch.cat(gradients).double()


@pytest.fixture(autouse=True)
def one_thread_and_flags_as_before():
    """A dispatch mode sees the operators of its own thread only."""
    threads = torch.get_num_threads()
    flags = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [each.fp32_precision for each in flags]
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for each, value in zip(flags, before, strict=True):
        each.fp32_precision = value


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_bf16_keeps_the_direction_of_the_outer_gradient(name):
    exact = outer_gradient(*setting(name, torch.float64))
    learner, episodes = setting(name)
    precision.apply("bf16", learner)
    with Products() as products:
        coarse = outer_gradient(learner, episodes)
    assert (aten.convolution.default, torch.bfloat16) in products.types
    assert (aten.convolution.default, torch.float32) not in products.types
    assert (aten.convolution_backward.default, torch.bfloat16) in products.types
    assert 0.95 < F.cosine_similarity(coarse, exact, dim=0) < 0.9999
    trained = [p for p in learner.parameters() if p.grad is not None]
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in trained)


@pytest.mark.parametrize("name", ALL)
def test_tf32_keeps_the_direction_of_the_outer_gradient(name):
    """TF32 is acted out: the factors of all float32 products are rounded as tensor cores do."""
    exact = outer_gradient(*setting(name, torch.float64))
    with Products(fraction=10):
        coarse = outer_gradient(*setting(name))
    assert 0.97 < F.cosine_similarity(coarse, exact, dim=0) < 0.999999


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_heads_and_evaluation_of_bf16_are_float32(name):
    learner, episodes = setting(name)
    learner.eval()
    queries = episodes.support_x.flatten(1, 2)
    with torch.no_grad():
        exact = learner(episodes.support_x, episodes.support_y, queries)
        precision.apply("bf16", learner)
        with Products() as products:
            coarse = learner(episodes.support_x, episodes.support_y, queries)
    convolutions = (aten.convolution.default, aten.convolution_backward.default)
    heads = {dtype for func, dtype in products.types if func not in convolutions}
    assert heads and torch.bfloat16 not in heads
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, exact)


def test_an_mlp_rounds_as_well():
    torch.manual_seed(0)
    backbone = MLP((1, 4, 4), hidden=8)
    images = torch.rand(2, 3, 1, 4, 4)
    exact = backbone(images)
    backbone.use_bfloat16 = True
    assert backbone(images).dtype == torch.float32
    torch.testing.assert_close(backbone(images), exact, rtol=0.02, atol=0.02)
    assert not torch.equal(backbone(images), exact)


@pytest.mark.parametrize(("name", "flag"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_cuda_rounds_float32_only_where_tf32_is_asked_for(name, flag):
    learner, _ = setting("protonet")
    precision.apply(name, learner)
    assert torch.backends.cuda.matmul.fp32_precision == flag
    assert torch.backends.cudnn.conv.fp32_precision == flag
    assert learner.backbone.use_bfloat16 == (name == "bf16")


def test_what_cannot_be_is_said_before_any_work():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    first, second = setting("maml")[0], setting("maml, second order")[0]
    precision.validate("bf16", first, cpu)
    precision.validate("bf16", setting("protonet")[0], cpu)
    precision.validate("tf32", second, cuda)
    with pytest.raises(UserError, match="tf32 is made by the tensor cores"):
        precision.validate("tf32", first, cpu)
    with pytest.raises(UserError, match="too coarse .* algo.second_order=false"):
        precision.validate("bf16", second, cuda)
