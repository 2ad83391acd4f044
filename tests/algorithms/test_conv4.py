"""The options of Conv-4."""

import pytest
import torch

from algorithms.backbones.conv4 import Conv4
from algorithms.stateless import with_tensors


def conv4(spatial: str) -> Conv4:
    torch.manual_seed(0)
    return Conv4((1, 28, 28), filters=8, downsample="stride", spatial=spatial).double()


@pytest.mark.parametrize("per_task", [False, True])
def test_spatial_mean_is_the_mean_over_the_places_of_each_filter(per_task):
    images = torch.rand(3, 5, 1, 28, 28, dtype=torch.float64)
    places, means = conv4("flatten"), conv4("mean")
    assert (places.features, means.features) == (8 * 2 * 2, 8)
    if per_task:
        weights = {n: torch.stack([p, 2 * p, -p]) for n, p in places.named_parameters()}
        places, means = with_tensors(places, weights), with_tensors(means, weights)
    expected = places(images).unflatten(2, (8, 4)).mean(3)
    torch.testing.assert_close(means(images), expected)
