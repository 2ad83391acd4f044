"""Conv-4: the four-block convolutional network of the few-shot literature."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Convolutional, Spatial, check_images
from algorithms.nn.layers import BatchNorm2d, Conv2d


class Conv4(Convolutional):
    """Four blocks of 3x3 convolution, batch norm and ReLU, each halving the image.

    ``downsample="stride"`` halves with stride 2, rounding up (MAML and Reptile on Omniglot, Finn et
    al. 2017); ``"pool"`` halves with 2x2 max-pooling, rounding down (Snell et al. 2017). At 28x28
    with 64 filters this gives 2x2x64 = 256 or 1x1x64 = 64 features. ``spatial="mean"`` averages the
    last map over its positions, as MAML's code does on Omniglot; ``"flatten"`` keeps them separate.

    Maps images [T, B, C, H, W] to features [T, B, ``num_features``]. The convolutions have no bias,
    since batch norm would cancel it. ``init`` is the initialisation of their kernels: torch's
    default, or Xavier uniform (Glorot, Bengio 2010), the default of TensorFlow. ``norm_eps`` is the
    eps of batch norm, added to the variance; TensorFlow uses 0.001.
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
        self.pool = downsample == "pool"
        check_images(image_shape, poolings=4 if self.pool else 0)
        channels, height, width = image_shape
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
        self.num_features = filters * (1 if self.average else height * width)

    def feature_map(
        self, x: Tensor, stats_from: int | None, tasks: int, keys: Tensor | None
    ) -> Tensor:
        """Return the map of the last block, see `Convolutional`."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(convolution(x), stats_from, tasks)
            # Max-pooling commutes with the monotone ReLU; pooling first leaves it 4x less work.
            x = F.relu(F.max_pool2d(x, 2) if self.pool else x)
        return x
