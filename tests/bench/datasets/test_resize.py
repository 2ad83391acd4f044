"""Images in another shape: held to the formulas in float64, with no rounding between."""

import pytest
import torch
import torch.nn.functional as F

from bench.datasets.io.resize import resize_pool
from bench.tasks.pool import Pool


def pool_of(channels: int, height: int, width: int) -> Pool:
    torch.manual_seed(channels)
    images = torch.randint(0, 256, (9, channels, height, width), dtype=torch.uint8)
    return Pool.of({"a": images[:4], "b": images[4:]})


def exact(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    if shape[0] < images.shape[1]:
        weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
        images = (images * weights[:, None, None]).sum(1, keepdim=True)
    images = F.interpolate(images.double(), shape[1:], mode="bilinear", antialias=True)
    return images.expand(-1, shape[0], -1, -1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (3, 28, 28), (1, 40, 50), (3, 50, 40), (1, 21, 33), (3, 33, 21)]
)
def test_the_images_are_those_of_the_formulas(channels: int, shape: tuple[int, int, int]) -> None:
    pool = pool_of(channels, 33, 21)
    found = resize_pool(pool, shape)
    assert found.inputs.shape == (9, *shape) and found.inputs.dtype == torch.uint8
    # rounded to whole numbers up to three times: luma, along rows, along columns
    assert (found.inputs - exact(pool.inputs, shape)).abs().max() < 1.6
    assert torch.equal(found.offsets, pool.offsets) and found.names == pool.names


def test_thin_strokes_are_not_lost() -> None:
    """An image of one bright column keeps its brightness, wherever the column is."""
    images = torch.eye(84, dtype=torch.uint8)[:, None, None].expand(-1, 1, 84, -1) * 255
    found = resize_pool(Pool.of({"a": images}), (1, 28, 28)).inputs.double()
    assert (found[5:-5].mean((1, 2, 3)) - 255 / 84).abs().max() < 0.1


def test_images_of_that_shape_are_left_alone() -> None:
    pool = pool_of(3, 28, 28)
    assert resize_pool(pool, (3, 28, 28)) is pool
