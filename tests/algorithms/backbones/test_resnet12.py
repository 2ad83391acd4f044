"""ResNet-12 against the paper's sizes and against a network of torch's own layers."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from algorithms.backbones.resnet12 import ResNet12
from algorithms.nn.dropout import advance_step
from algorithms.nn.functional import with_tensors


class PlainBlock(nn.Module):
    """A residual block as Lee et al. 2019 describe it, from torch's own layers."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()

        def normed(before: int, size: int) -> nn.Sequential:
            convolution = nn.Conv2d(before, filters, size, padding=size // 2, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(filters))

        first, second, third = normed(channels, 3), normed(filters, 3), normed(filters, 3)
        self.path = nn.Sequential(first, nn.LeakyReLU(0.1), second, nn.LeakyReLU(0.1), third)
        self.shortcut = normed(channels, 1)
        self.end = nn.Sequential(nn.LeakyReLU(0.1), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.path(x) + self.shortcut(x))


def plain(weights: dict[str, Tensor], filters: int) -> nn.Sequential:
    """The network with the weights of ours, which are in another order."""
    widths = (1, filters, filters * 5 // 2, filters * 5, filters * 10)
    blocks = [PlainBlock(*pair) for pair in pairwise(widths)]
    for i, block in enumerate(blocks):
        names = [f"convolutions.{j}" for j in range(3)] + ["shortcut"]
        norms = [f"norms.{j}" for j in range(3)] + ["shortcut_norm"]
        layers = [block.path[0], block.path[2], block.path[4], block.shortcut]
        for name, norm, layer in zip(names, norms, layers, strict=True):
            layer[0].weight.data = weights[f"blocks.{i}.{name}.weight"].detach()
            layer[1].weight.data = weights[f"blocks.{i}.{norm}.weight"].detach()
            layer[1].bias.data = weights[f"blocks.{i}.{norm}.bias"].detach()
    return nn.Sequential(*blocks, nn.Flatten()).double()


def resnet12(**options: object) -> ResNet12:
    """A tiny one for grey images of 35x32 pixels, with scales and offsets away from 1 and 0."""
    torch.manual_seed(0)
    network = ResNet12((1, 35, 32), **{"filters": 4, "drop_rate": 0.0, **options}).double()
    for parameter in network.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 1.0, 0.3)
    return network


IMAGES = torch.rand(3, 5, 1, 35, 32, generator=torch.Generator().manual_seed(1)).double()


def test_the_sizes_are_those_of_the_official_network():
    """A block from c to w channels has 9cw + 2 * 9ww weights in its convolutions of 3x3, cw in its
    shortcut and 4 * 2w in its batch norms: 10cw + 18ww + 8w. From 3 over 64, 160, 320 to 640 channels,
    76,160 + 564,480 + 2,357,760 + 9,425,920."""
    network = ResNet12((3, 32, 32))
    assert sum(p.numel() for p in network.parameters()) == 12_424_320
    assert network.num_features == 640 * 2 * 2 == 2_560


@pytest.mark.parametrize(("side", "places"), [(32, 2 * 2), (84, 5 * 5), (28, 1)])
def test_features_are_ten_times_the_filters_at_each_place(side, places):
    network = ResNet12((3, side, side), filters=4)
    assert network(torch.rand(1, 2, 3, side, side)).shape == (1, 2, 40 * places)
    assert network.num_features == 40 * places


@pytest.mark.parametrize("training", [True, False])
def test_features_are_those_of_a_plain_network_task_by_task(training):
    network = resnet12()
    network(IMAGES)  # running statistics away from their start
    reference = plain(dict(network.named_parameters()), 4).train()
    for module, other in zip(plain_norms(reference), our_norms(network), strict=True):
        module.load_state_dict(other.state_dict())
    network.train(training), reference.train(training)
    expected = torch.stack([reference(images) for images in IMAGES])
    assert expected.shape == (3, 5, network.num_features)
    torch.testing.assert_close(network(IMAGES), expected)
    torch.testing.assert_close(network.forward_single_task(IMAGES[0]), expected[0])


def plain_norms(reference: nn.Sequential) -> list[nn.Module]:
    return [m for m in reference.modules() if isinstance(m, nn.BatchNorm2d)]


def our_norms(network: ResNet12) -> list[nn.Module]:
    """In the order of the plain network's."""
    return [norm for block in network.blocks for norm in (*block.norms, block.shortcut_norm)]


def test_weights_of_each_task_give_the_features_of_a_plain_network_with_them():
    network = resnet12()
    weights = {n: torch.stack([p, 1.5 * p, -p]) for n, p in network.named_parameters()}
    features = with_tensors(network, weights)(IMAGES)
    for task in range(3):
        reference = plain({name: weight[task] for name, weight in weights.items()}, 4)
        torch.testing.assert_close(features[task], reference(IMAGES[task]))


def test_rows_limit_the_statistics_to_the_first_images():
    network = resnet12()
    features = network.forward_per_task(
        torch.cat((IMAGES, IMAGES[:, 1:3].flip(3)), 1), stats_from=5
    )
    torch.testing.assert_close(features[:, :5], network.forward_per_task(IMAGES))


@pytest.mark.parametrize("per_task", [False, True])
def test_spatial_mean_is_the_mean_over_the_places_of_each_filter(per_task):
    places, means = resnet12(), resnet12(spatial="mean")
    assert (places.num_features, means.num_features) == (40 * 2 * 2, 40)
    if per_task:
        weights = {n: torch.stack([p, 2 * p, -p]) for n, p in places.named_parameters()}
        places, means = with_tensors(places, weights), with_tensors(means, weights)
    expected = places(IMAGES).unflatten(2, (40, 4)).mean(3)
    torch.testing.assert_close(means(IMAGES), expected)


def test_blocks_drop_elements_or_squares_at_a_rate_that_rises_and_only_in_training():
    network = resnet12(filters=16, drop_rate=0.2, drop_steps=4)
    shares = {}
    for block, site in zip(network.blocks[1:], (0, 1, 2), strict=True):
        # What goes into a block is what the one before it has dropped from.
        block.register_forward_pre_hook(
            lambda _, given, site=site: shares.update(
                {site: (given[0] == 0).double().mean().item()}
            )
        )

    def share_of_features() -> float:
        return (network(IMAGES) == 0).double().mean().item()

    assert share_of_features() == shares[2] == 0  # no square at first
    assert shares[0] == pytest.approx(0.2, abs=0.01)
    assert shares[1] == pytest.approx(0.2, abs=0.02)
    for _ in range(2):
        advance_step(network)
    assert share_of_features() == pytest.approx(0.1, abs=0.02)  # 2x2 is the whole last map
    assert shares[2] == pytest.approx(0.1, abs=0.03)
    for _ in range(20):
        advance_step(network)
    assert share_of_features() == pytest.approx(0.2, abs=0.03)
    network.eval()
    assert share_of_features() == shares[0] == shares[1] == shares[2] == 0


@pytest.mark.parametrize("wrong", [{"drop_rate": 1.0}, {"drop_block": 0}, {"drop_steps": 0}])
def test_rates_and_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"drop_rate must be from 0 to below 1"):
        ResNet12((1, 32, 32), **wrong)


def test_images_too_small_for_four_poolings_are_refused():
    with pytest.raises(ValueError, match="16x16"):
        ResNet12((1, 16, 15))
    assert ResNet12((1, 16, 16), filters=2).num_features == 20
