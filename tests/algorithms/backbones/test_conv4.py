"""The options of Conv-4."""

import pytest
import torch
import torch.nn.functional as F

from algorithms.backbones.conv4 import Conv4
from algorithms.nn.functional import with_tensors


def conv4(spatial: str) -> Conv4:
    torch.manual_seed(0)
    return Conv4((1, 28, 28), filters=8, downsample="stride", spatial=spatial).double()


@pytest.mark.parametrize("per_task", [False, True])
def test_spatial_mean_is_the_mean_over_the_places_of_each_filter(per_task):
    images = torch.rand(3, 5, 1, 28, 28, dtype=torch.float64)
    places, means = conv4("flatten"), conv4("mean")
    assert (places.num_features, means.num_features) == (8 * 2 * 2, 8)
    if per_task:
        weights = {n: torch.stack([p, 2 * p, -p]) for n, p in places.named_parameters()}
        places, means = with_tensors(places, weights), with_tensors(means, weights)
    expected = places(images).unflatten(2, (8, 4)).mean(3)
    torch.testing.assert_close(means(images), expected)


@pytest.mark.parametrize(("downsample", "side"), [("stride", 2), ("pool", 1)])
def test_each_of_four_blocks_halves_the_image(downsample, side):
    """Images of 20x17 pixels: rounded up, to 2x2, by strides; rounded down, to 1x1, by pooling."""
    torch.manual_seed(0)
    network = Conv4((2, 20, 17), filters=3, downsample=downsample).double()
    assert network.num_features == 3 * side * side
    assert not {"noise.steps"} & set(network.state_dict())
    kernels, scales_and_offsets = 9 * (2 * 3 + 3 * 3 * 3), 4 * 2 * 3
    assert sum(p.numel() for p in network.parameters()) == kernels + scales_and_offsets
    images = torch.rand(2, 4, 2, 20, 17, dtype=torch.float64)
    x = images.flatten(0, 1)
    stride = {"stride": 2, "pool": 1}[downsample]
    for convolution in network.convolutions:
        x = F.conv2d(x, convolution.weight, None, stride, 1)
        each = [F.batch_norm(task, None, None, training=True) for task in x.chunk(2)]
        x = F.relu(torch.cat(each))
        if downsample == "pool":
            x = F.max_pool2d(x, 2)
    expected = x.unflatten(0, (2, 4)).flatten(2)
    torch.testing.assert_close(network(images), expected)
    torch.testing.assert_close(network.forward_single_task(images[0]), expected[0])
    torch.testing.assert_close(network.forward_per_task(images), expected)


def test_images_that_four_poolings_would_leave_nothing_of_are_refused():
    for shape in ((1, 15, 16), (1, 16, 15)):
        with pytest.raises(ValueError, match="at least 16x16"):
            Conv4(shape)
    assert Conv4((1, 16, 16), filters=5).num_features == 5
    assert Conv4((1, 2, 2), filters=5, downsample="stride").num_features == 5


def test_kernels_start_by_the_rule_of_xavier_where_that_is_asked_for():
    """Uniform up to the root of 6 / (9 inputs + 9 outputs of a place)."""
    torch.manual_seed(0)
    network = Conv4((1, 28, 28), filters=64, downsample="stride", init="xavier")
    for channels, convolution in zip((1, 64, 64, 64), network.convolutions, strict=True):
        bound = (6 / (9 * channels + 9 * 64)) ** 0.5
        assert 0.95 * bound < convolution.weight.abs().max() <= bound
        assert convolution.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm_eps", [1e-5, 1e-3])
@pytest.mark.parametrize("per_task", [False, True])
def test_batch_norm_adds_what_is_asked_for_to_variances(norm_eps, per_task):
    torch.manual_seed(0)
    network = Conv4((1, 4, 4), filters=3, downsample="stride", norm_eps=norm_eps).double()
    x = images = 0.1 * torch.rand(2, 4, 1, 4, 4, dtype=torch.float64)  # variances are small
    features = network.forward_per_task(images) if per_task else network(images)
    x = images.flatten(0, 1)
    for convolution in network.convolutions:
        x = F.conv2d(x, convolution.weight, None, 2, 1)
        each = [F.batch_norm(task, None, None, training=True, eps=norm_eps) for task in x.chunk(2)]
        x = F.relu(torch.cat(each))
    torch.testing.assert_close(features, x.unflatten(0, (2, 4)).flatten(2))
