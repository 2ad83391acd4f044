"""ResNet-12: the residual network of the few-shot literature, as in MetaOptNet."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Convolutional, Spatial, check_four_poolings
from algorithms.layers import BatchNorm2d, Conv2d
from algorithms.noise import drop_block, dropout

SLOPE = 0.1
"""Of the LeakyReLU below zero."""
PLAIN = 2
"""So many blocks, the first ones, drop single elements; the others drop squares."""


class Block(nn.Module):
    """Three 3x3 convolutions beside a shortcut, added up and halved.

    Maps [B, G*C, H, W] to [B, G*O, H/2, W/2], as `algorithms.layers` has them.
    With convolutions C_i, batch norms N_i and a = LeakyReLU of slope 0.1,

        y = maxpool a( N_3 C_3 a N_2 C_2 a N_1 C_1 x + N_0 C_0 x ),

    where the shortcut's convolution C_0 is 1x1 and the max-pooling 2x2, rounding down.
    """

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            Conv2d(before, filters, 3, padding=1, bias=False)
            for before in (channels, filters, filters)
        )
        self.norms = nn.ModuleList(BatchNorm2d(filters) for _ in range(3))
        self.shortcut = Conv2d(channels, filters, 1, bias=False)
        self.shortcut_norm = BatchNorm2d(filters)

    def forward(self, x: Tensor, rows: int | None, tasks: int) -> Tensor:
        """The block's maps; ``rows`` and ``tasks`` are those of `BatchNorm2d`."""
        y = x
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = norm(convolution(F.leaky_relu(y, SLOPE) if i else y), rows, tasks)
        y = y + self.shortcut_norm(self.shortcut(x), rows, tasks)
        # A maximum passes through the monotone LeakyReLU, which so has a quarter of the work.
        return F.leaky_relu(F.max_pool2d(y, 2), SLOPE)


class ResNet12(Convolutional):
    """Four residual blocks of 64, 160, 320 and 640 filters, each halving the image, rounding down.

    Lee, Maji, Ravichandran, Soatto 2019 (arXiv 1904.03758). ``filters`` is the width of the first
    block; the others go with it, 1 : 2.5 : 5 : 10. ``spatial="flatten"`` keeps all places of the last
    map, as the paper does: 640x2x2 = 2,560 features of 32x32 pixels, 640x5x5 = 16,000 of 84x84;
    ``"mean"`` averages over the places (640 features), as many later papers do.

    In training, each block drops about ``drop_rate`` of the maps that it returns: the first two single
    elements, the others squares of ``drop_block`` places (DropBlock), whose rate rises from 0 to
    ``drop_rate`` over the first ``drop_steps`` outer steps. The official code counts passes instead, up
    to 40,000, those of validations too: 2,000 of training and 4,000 of validation in an epoch of 1,000
    outer steps, so that its rate is full after 7 epochs. What is dropped is told by `algorithms.noise`.

    Maps images [T, B, C, H, W] to features [T, B, ``features``]. Convolutions start as in the official
    code: normal, of variance 2 / (outputs that each input goes to).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        filters: int = 64,
        spatial: Spatial = "flatten",
        drop_rate: float = 0.1,
        drop_block: int = 2,
        drop_steps: int = 7000,
    ) -> None:
        super().__init__(spatial, noisy=drop_rate > 0)
        if not 0 <= drop_rate < 1 or drop_block < 1 or drop_steps < 1:
            raise ValueError(
                "drop_rate must be from 0 to below 1, and drop_block and drop_steps at least 1"
            )
        self.drop_rate, self.drop_block, self.drop_steps = drop_rate, drop_block, drop_steps
        channels, height, width = image_shape
        check_four_poolings(image_shape)
        widths = [filters, filters * 5 // 2, filters * 5, filters * 10]
        self.blocks = nn.ModuleList(
            Block(before, after) for before, after in pairwise([channels, *widths])
        )
        for module in self.modules():
            if isinstance(module, Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
        self.features = widths[-1] * (1 if self.average else (height // 16) * (width // 16))

    def last_map(self, x: Tensor, rows: int | None, tasks: int, keys: Tensor | None) -> Tensor:
        """See `Convolutional`."""
        for site, block in enumerate(self.blocks):
            x = block(x, rows, tasks)
            if keys is not None and site < PLAIN:
                x = dropout(x, keys, site, self.drop_rate)
            elif keys is not None and self.noise:
                rate = self.drop_rate * (self.noise.steps / self.drop_steps).clamp(max=1)
                x = drop_block(x, keys, site, rate, self.drop_block)
        return x
