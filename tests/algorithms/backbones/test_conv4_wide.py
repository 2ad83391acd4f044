"""The wide Conv-4 against the official sizes and against a network of torch's own layers."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from algorithms.backbones.conv4_wide import Conv4Wide
from algorithms.nn.dropout import dropout
from algorithms.nn.functional import with_tensors

IMAGES = torch.rand(3, 4, 1, 26, 17, generator=torch.Generator().manual_seed(1)).double()


def wide(drop_rate: float = 0.0, widths: str = "rising") -> Conv4Wide:
    """A narrow one for grey images of 26x17 pixels, with scales and offsets away from 1 and 0."""
    torch.manual_seed(0)
    network = Conv4Wide((1, 26, 17), filters=3, widths=widths, drop_rate=drop_rate).double()
    for parameter in network.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 1.0, 0.3)
    return network


class Plain(nn.Module):
    """The network of Bertinetto et al. 2019 for one task, of torch's own layers."""

    def __init__(self, weights: dict[str, Tensor], sizes: Sequence[int] = (3, 6, 12, 16)) -> None:
        super().__init__()

        def block(i: int, before: int, after: int) -> nn.Sequential:
            convolution, norm = nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)
            nn.init.normal_(convolution.bias)  # batch norm takes it out again
            convolution.weight.data = weights[f"convolutions.{i}.weight"].detach()
            norm.weight.data = weights[f"norms.{i}.weight"].detach()
            norm.bias.data = weights[f"norms.{i}.bias"].detach()
            pool = nn.MaxPool2d(2, stride=1 if i == 3 else 2)
            return nn.Sequential(convolution, norm, nn.LeakyReLU(0.1), pool)

        pairs = enumerate(pairwise((1, *sizes)))
        first, second, self.third, self.fourth = [block(i, *pair) for i, pair in pairs]
        self.first = nn.Sequential(first, second)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        third = self.third(self.first(x))
        maps = nn.functional.max_pool2d(third, 2, stride=1), self.fourth(third)
        return torch.cat([each.flatten(1) for each in maps], 1)


@pytest.mark.parametrize(
    ("side", "third", "fourth"), [(28, 1536, 2048), (32, 3456, 4608), (84, 31104, 41472)]
)
def test_the_sizes_are_those_of_the_official_network(side, third, fourth):
    """What its training script says of the features of both blocks. Kernels of 3x3 between 3, 96, 192,
    384 and 512 channels, 9 * 289,056, with two numbers for each of the 1,184 filters."""
    network = Conv4Wide((3, side, side), drop_rate=0.0)
    assert network.num_features == third + fourth
    assert sum(p.numel() for p in network.parameters()) == 2_601_504 + 2_368


def test_the_narrow_network_is_the_official_64c():
    """RRNet_small: 64 filters in each block, 576 features of each of the last two at 32x32."""
    network = Conv4Wide((3, 32, 32), filters=64, widths="equal", drop_rate=0.4)
    assert network.num_features == 576 + 576 == 1152
    kernels = [tuple(each.weight.shape[:2]) for each in network.convolutions]
    assert kernels == [(64, 3), (64, 64), (64, 64), (64, 64)]


@pytest.mark.parametrize(("widths", "sizes"), [
    ("rising", (3, 6, 12, 16)), ("equal", (3, 3, 3, 3)),
])  # fmt: skip
def test_features_are_those_of_a_plain_network_task_by_task(widths, sizes):
    network = wide(widths=widths)
    assert network.num_features == sum(sizes[2:]) * 2 * 1
    reference = Plain(dict(network.named_parameters()), sizes)
    expected = torch.stack([reference(images) for images in IMAGES])
    assert expected.shape == (3, 4, network.num_features)
    torch.testing.assert_close(network(IMAGES), expected)
    torch.testing.assert_close(network.forward_single_task(IMAGES[0]), expected[0])
    torch.testing.assert_close(network.forward_per_task(IMAGES), expected)


def test_weights_of_each_task_give_the_features_of_a_plain_network_with_them():
    network = wide()
    weights = {n: torch.stack([p, 1.5 * p, -p]) for n, p in network.named_parameters()}
    features = with_tensors(network, weights)(IMAGES)
    for task in range(3):
        reference = Plain({name: weight[task] for name, weight in weights.items()})
        torch.testing.assert_close(features[task], reference(IMAGES[task]))


def test_rows_limit_the_statistics_to_the_first_images():
    network = wide()
    features = network.forward_per_task(
        torch.cat((IMAGES, IMAGES[:, 1:3].flip(3)), 1), stats_from=4
    )
    torch.testing.assert_close(features[:, :4], network.forward_per_task(IMAGES))


def test_images_too_small_for_its_poolings_are_refused():
    for shape in ((1, 15, 16), (1, 16, 15)):
        with pytest.raises(ValueError, match="at least 16x16"):
            Conv4Wide(shape)
    assert Conv4Wide((1, 16, 16), filters=3).num_features == 28
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="drop_rate must be from 0"):
            Conv4Wide((1, 16, 16), drop_rate=rate)


class Dropping(Plain):
    """With the masks of these keys behind its last two blocks."""

    def __init__(self, weights: dict[str, Tensor], keys: Tensor, rate: float) -> None:
        super().__init__(weights)
        for block, site in ((self.third, 2), (self.fourth, 3)):
            block.register_forward_hook(lambda _, __, x, site=site: dropout(x, keys, site, rate))


@pytest.mark.parametrize("per_task", [False, True])
def test_training_drops_elements_behind_the_last_two_blocks(per_task):
    network = wide(drop_rate=0.4)
    features = network.forward_per_task(IMAGES) if per_task else network(IMAGES)
    weights = dict(network.named_parameters())
    for task, images in enumerate(IMAGES):
        keys = network.noise.keys(images[None])
        torch.testing.assert_close(features[task], Dropping(weights, keys, 0.4)(images))
    zeros = (features[..., 12 * 2 :] == 0).double().mean().item()  # of the fourth block
    assert zeros == pytest.approx(0.4, abs=0.1)
    plain = wide().eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    assert torch.equal(network.eval()(IMAGES), plain(IMAGES))
