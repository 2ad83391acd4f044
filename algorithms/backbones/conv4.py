"""Conv-4: the four-block convolutional network of the few-shot literature."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Convolutional, Spatial, check_four_poolings
from algorithms.layers import BatchNorm2d, Conv2d


class Conv4(Convolutional):
    """Four blocks of 3x3 convolution, batch norm, ReLU, each halving the image.

    ``downsample="stride"`` halves by a stride of 2, rounding up (MAML and Reptile on Omniglot,
    Finn et al. 2017); ``"pool"`` by 2x2 max-pooling, rounding down (Snell et al. 2017). At 28x28
    with 64 filters that gives 2x2x64 = 256 or 1x1x64 = 64 features; ``spatial="mean"`` averages the
    last map over its places, as MAML's code does on Omniglot, where ``"flatten"`` keeps them apart.

    Maps images [T, B, C, H, W] to features [T, B, ``features``]. Convolutions have no biases, which
    batch norm would take out again. Their kernels start as ``init`` says: as torch draws them, or by
    Xavier's uniform rule (Glorot, Bengio 2010), TensorFlow's default. ``norm_eps`` is what batch norm
    adds to variances; TensorFlow has 0.001.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        filters: int = 32,
        downsample: Literal["stride", "pool"] = "pool",
        spatial: Spatial = "flatten",
        init: Literal["torch", "xavier"] = "torch",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(spatial)
        channels, height, width = image_shape
        self.pool = downsample == "pool"
        if self.pool:
            check_four_poolings(image_shape)
        stride = 1 if self.pool else 2
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for _ in range(4):
            convolution = Conv2d(channels, filters, 3, stride, padding=1, bias=False)
            if init == "xavier":
                nn.init.xavier_uniform_(convolution.weight)
            self.convolutions.append(convolution)
            self.norms.append(BatchNorm2d(filters, eps=norm_eps))
            channels = filters
            height, width = ((n if self.pool else n + 1) // 2 for n in (height, width))
        self.features = filters * (1 if self.average else height * width)

    def last_map(self, x: Tensor, rows: int | None, tasks: int, keys: Tensor | None) -> Tensor:
        """See `Convolutional`."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(convolution(x), rows, tasks)
            # A maximum passes through the monotone ReLU, which so has a quarter of the work.
            x = F.relu(F.max_pool2d(x, 2) if self.pool else x)
        return x
