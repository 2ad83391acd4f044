"""Raw inputs as features, of images and of bytes."""

import torch

from algorithms.backbones.pixels import Pixels
from algorithms.centroid import NearestCentroid


def test_bytes_become_floats_and_floats_keep_their_dtype():
    text = torch.randint(0, 256, (2, 6, 9), dtype=torch.uint8)
    assert torch.equal(Pixels((9,))(text), text.float())
    images = torch.rand(2, 6, 1, 4, 4, dtype=torch.float64)
    assert torch.equal(Pixels((1, 4, 4))(images), images.flatten(2))


def test_the_floor_compares_texts():
    text = torch.randint(0, 256, (1, 3, 1, 9), dtype=torch.uint8)
    labels = torch.arange(3).view(1, 3, 1)
    found = NearestCentroid(Pixels((9,)), 3)(text, labels, text.flatten(1, 2))
    assert found.argmax(-1).tolist() == [[0, 1, 2]]
