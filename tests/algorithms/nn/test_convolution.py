"""The convolution that is differentiated twice, against torch's own and finite differences."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.resnet12 import ResNet12
from algorithms.maml import MAML
from algorithms.nn import convolution
from algorithms.protomaml import ProtoMAML
from bench.check.tasks import random_episodes

GROUPS = 2


def torchs(x: Tensor, weight: Tensor, stride, padding, groups: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, padding, groups=groups)


@pytest.fixture(params=[(1, 1), (2, 1), (2, 0)], ids=["same", "halved", "unpadded"])
def setting(request) -> tuple:
    stride, padding = request.param
    return (stride, stride), (padding, padding), GROUPS


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, GROUPS * 2, 4, 3, dtype=torch.float64, generator=generator)
    weight = torch.randn(GROUPS * 2, 2, 3, 3, dtype=torch.float64, generator=generator)
    return x.requires_grad_(), weight.requires_grad_()


def test_second_derivatives_are_those_of_finite_differences(setting):
    def conv2d(x, weight):
        return convolution.conv2d(x, weight, *setting)

    assert torch.autograd.gradcheck(conv2d, inputs())
    assert torch.autograd.gradgradcheck(conv2d, inputs())


@pytest.mark.parametrize("needed", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("first", [(0,), (1,), (0, 1)])
def test_it_is_torchs_where_only_some_gradients_are_needed(setting, needed, first):
    """As in the first layer, whose images need none."""

    def second(conv2d):
        both = [each.requires_grad_(i in needed) for i, each in enumerate(inputs())]
        y = conv2d(*both, *setting)
        wanted = [both[i] for i in needed]
        inner = [both[i] for i in set(first) & set(needed)] or wanted
        gradients = torch.autograd.grad(y.pow(3).sum(), inner, create_graph=True)
        return y, *torch.autograd.grad(sum(g.square().sum() for g in gradients), wanted)

    for own, other in zip(second(convolution.conv2d), second(torchs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


LEARNERS = {
    "maml": lambda: MAML(Conv4((1, 16, 16), filters=4, downsample="stride"), 3, inner_steps=2),
    "maml, queries": lambda: MAML(Conv4((1, 16, 16), filters=4), 3, norm_statistics="all_queries"),
    "metasgd": lambda: MAML(Conv4((1, 16, 16), filters=4), 3, learn_inner_lr="per_weight"),
    "protomaml": lambda: ProtoMAML(Conv4((1, 16, 16), filters=4), 3),
    "resnet12": lambda: MAML(ResNet12((1, 16, 16), filters=2, drop_rate=0.0), 3),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_outer_gradients_are_those_of_torchs_convolution(name, monkeypatch):
    def outer_gradient() -> Tensor:
        torch.manual_seed(0)
        learner = LEARNERS[name]().double()
        learner.meta_gradient(random_episodes(2, 3, 1, 2))
        return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])

    own = outer_gradient()
    asked = []
    monkeypatch.setattr(convolution, "conv2d", lambda *a: (asked.append(1), torchs(*a))[1])
    other = outer_gradient()
    assert asked
    assert (own - other).norm() < 1e-12 * other.norm()
