"""The wide Conv-4 of R2D2, whose features are the maps of its last two blocks."""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Convolutional, check_images
from algorithms.nn.dropout import dropout
from algorithms.nn.layers import BatchNorm2d, Conv2d

SLOPE = 0.1
"""Negative slope of the LeakyReLU."""


class Conv4Wide(Convolutional):
    """Four blocks of 3x3 convolution, batch norm, 2x2 max-pooling and LeakyReLU; 96 to 512 filters.

    Bertinetto, Henriques, Torr, Vedaldi 2019 (arXiv 1805.08136), as in the official code. The
    blocks have 96, 192, 384 and 512 filters. The first three halve the image, rounding down. The
    max-pooling of the fourth has stride 1, and so has an additional one over the maps of the third,
    which gives both the same size. The features are both maps, flattened: (384 + 512) x 3 x 3 =
    8,064 at 32x32 pixels, (384 + 512) x 2 x 2 = 3,584 at 28x28. ``filters`` is the width of the
    first block; the other widths scale with it, 1 : 2 : 4 : 16/3, or are equal to it with
    ``widths="equal"``: with 64 filters that is the narrow network of the paper, 64C, with (64 + 64)
    x 3 x 3 = 1,152 features at 32x32 pixels.

    In training, each of the last two blocks drops a fraction ``drop_rate`` of its output elements,
    see `algorithms.nn.dropout` (official code: 0.4 on CIFAR-FS, 0.1 on mini-ImageNet, 0 on
    Omniglot).

    Maps images [T, B, C, H, W] to features [T, B, ``num_features``]. Weights have torch's default
    initialisation. The convolutions have no bias, since batch norm would cancel it: 1,184
    parameters fewer than the official code.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        filters: int = 96,
        widths: Literal["rising", "equal"] = "rising",
        drop_rate: float = 0.1,
    ) -> None:
        super().__init__("flatten", noisy=drop_rate > 0)
        if not 0 <= drop_rate < 1:
            raise ValueError("drop_rate must be from 0 to below 1")
        self.drop_rate = drop_rate
        check_images(image_shape, poolings=4)
        channels, height, width = image_shape
        each = [filters, filters * 2, filters * 4, filters * 16 // 3]
        if widths == "equal":
            each = [filters] * 4
        self.convolutions = nn.ModuleList(
            Conv2d(before, after, 3, padding=1, bias=False)
            for before, after in pairwise([channels, *each])
        )
        self.norms = nn.ModuleList(BatchNorm2d(width) for width in each)
        self.third = each[2]
        self.num_features = sum(each[2:]) * (height // 8 - 1) * (width // 8 - 1)

    def feature_map(
        self, x: Tensor, stats_from: int | None, tasks: int, keys: Tensor | None
    ) -> Tensor:
        """Return the maps of the last two blocks, concatenated per task, see `Convolutional`."""
        maps = []
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = norm(convolution(x), stats_from, tasks)
            # Max-pooling commutes with the monotone LeakyReLU; pooling first leaves it less work.
            x = F.leaky_relu(F.max_pool2d(x, 2, stride=1 if i == 3 else 2), SLOPE)
            if i >= 2:
                x = x if keys is None else dropout(x, keys, i, self.drop_rate)
                maps.append(x)
        third, fourth = F.max_pool2d(maps[0], 2, stride=1), maps[1]
        tasks_in_channels = third.shape[1] // self.third
        both = [each.unflatten(1, (tasks_in_channels, -1)) for each in (third, fourth)]
        return torch.cat(both, 2).flatten(1, 2)
