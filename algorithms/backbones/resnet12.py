"""ResNet-12: the residual network of the few-shot literature, as in MetaOptNet."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Convolutional, Spatial, check_images
from algorithms.nn.dropout import drop_block, dropout
from algorithms.nn.layers import BatchNorm2d, Conv2d

SLOPE = 0.1
"""Negative slope of the LeakyReLU."""
PLAIN = 2
"""Number of leading blocks that drop single elements; the later ones drop squares."""


class Block(nn.Module):
    """Three 3x3 convolutions with a shortcut connection, followed by 2x2 max-pooling.

    Maps [B, G*C, H, W] to [B, G*O, H/2, W/2], the layout of `algorithms.nn.layers`. With
    convolutions C_i, batch norms N_i and a = LeakyReLU of slope 0.1,

        y = maxpool a( N_3 C_3 a N_2 C_2 a N_1 C_1 x + N_0 C_0 x ),

    where the convolution C_0 of the shortcut is 1x1 and the max-pooling rounds down.
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

    def forward(self, x: Tensor, stats_from: int | None, tasks: int) -> Tensor:
        """Return the output of the block; ``stats_from`` and ``tasks`` are those of `BatchNorm2d`."""
        y = x
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = norm(convolution(F.leaky_relu(y, SLOPE) if i else y), stats_from, tasks)
        y = y + self.shortcut_norm(self.shortcut(x), stats_from, tasks)
        # Max-pooling commutes with the monotone LeakyReLU; pooling first leaves it 4x less work.
        return F.leaky_relu(F.max_pool2d(y, 2), SLOPE)


class ResNet12(Convolutional):
    """Four residual blocks of 64, 160, 320 and 640 filters, each halving the image, rounding down.

    Lee, Maji, Ravichandran, Soatto 2019 (arXiv 1904.03758). ``filters`` is the width of the first
    block; the other widths scale with it, 1 : 2.5 : 5 : 10. ``spatial="flatten"`` keeps all
    positions of the last map, as the paper does: 640x2x2 = 2,560 features at 32x32 pixels, 640x5x5
    = 16,000 at 84x84; ``"mean"`` averages over the positions (640 features), as many later papers
    do.

    In training, each block drops a fraction of about ``drop_rate`` of its output: the first two
    drop single elements, the others squares of side ``drop_block`` (DropBlock), whose rate rises
    linearly from 0 to ``drop_rate`` over the first ``drop_steps`` outer steps. See
    `algorithms.nn.dropout` for the masks. The official code counts forward passes instead, up to
    40,000, including those of validation: 2,000 of training and 4,000 of validation in an epoch of
    1,000 outer steps, so that it reaches the full rate after 7 epochs.

    Maps images [T, B, C, H, W] to features [T, B, ``num_features``]. Convolutions are initialised
    as in the official code: normal, with variance 2 / fan_out.
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
        check_images(image_shape, poolings=4)
        channels, height, width = image_shape
        widths = [filters, filters * 5 // 2, filters * 5, filters * 10]
        self.blocks = nn.ModuleList(
            Block(before, after) for before, after in pairwise([channels, *widths])
        )
        for module in self.modules():
            if isinstance(module, Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
        self.num_features = widths[-1] * (1 if self.average else (height // 16) * (width // 16))

    def feature_map(
        self, x: Tensor, stats_from: int | None, tasks: int, keys: Tensor | None
    ) -> Tensor:
        """Return the map of the last block, see `Convolutional`."""
        for site, block in enumerate(self.blocks):
            x = block(x, stats_from, tasks)
            if keys is not None and site < PLAIN:
                x = dropout(x, keys, site, self.drop_rate)
            elif keys is not None and self.noise:
                rate = self.drop_rate * (self.noise.steps / self.drop_steps).clamp(max=1)
                x = drop_block(x, keys, site, rate, self.drop_block)
        return x
