"""Networks from images to features."""

from typing import Literal

import torch
from torch import Tensor, nn

from algorithms.layers import Conv2d, fold, unfold
from algorithms.noise import Noise
from algorithms.stateless import with_tensors

Spatial = Literal["flatten", "mean"]
"""What becomes of the places of a last map: each has features of its own, or they are averaged."""


class Backbone(nn.Module):
    """Maps images [T, B, C, H, W] of T tasks to features [T, B, ``features``].

    Made of `algorithms.layers`, it runs with shared weights or, by `algorithms.stateless.with_tensors`,
    with weights per task. A backbone is built from the shape (C, H, W) of an image and its options.
    """

    features: int

    rounds_to_bfloat16: bool = False
    """Whether convolutions and products of matrices round their factors to bfloat16.

    Set by the runner. Weights, sums and features keep the type they have.
    """

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        """Features; ``rows`` limits batch-norm statistics to the first images of each task."""
        raise NotImplementedError

    def by_task(self, x: Tensor, rows: int | None = None) -> Tensor:
        """As `forward`, but batch norm normalises each task by its own images, also in evaluation."""
        weights = {name: p.expand(len(x), *p.shape) for name, p in self.named_parameters()}
        return with_tensors(self, weights)(x, rows)

    def one_task(self, x: Tensor) -> Tensor:
        """Features [B, ``features``] of the images [B, C, H, W] of one task, with shared weights.

        For code that knows nothing of tasks; a backbone may run it in the layout that x has.
        """
        return self(x[None])[0]

    def arithmetic(self, x: Tensor) -> torch.autocast:
        """The context in which ``forward`` calls its layers, see ``rounds_to_bfloat16``."""
        # No cache of rounded weights: a CUDA graph could not tell that they are out of date.
        return torch.autocast(
            x.device.type, torch.bfloat16, enabled=self.rounds_to_bfloat16, cache_enabled=False
        )


def check_four_poolings(image_shape: tuple[int, int, int]) -> None:
    """Raises ValueError where nothing of an image (C, H, W) would be left."""
    if min(image_shape[1:]) < 16:
        raise ValueError("four 2x2 poolings need images of at least 16x16 pixels")


class Convolutional(Backbone):
    """A backbone of `algorithms.layers`' convolutions, whose last feature map becomes the features.

    With ``noisy``, training drops parts of its maps, see `algorithms.noise`.
    """

    def __init__(self, spatial: Spatial, noisy: bool = False) -> None:
        super().__init__()
        self.average = spatial == "mean"
        self.noise = Noise() if noisy else None

    def last_map(self, x: Tensor, rows: int | None, tasks: int, keys: Tensor | None) -> Tensor:
        """The last map of images, both [B, G*C, H, W]; ``rows``, ``tasks`` as `BatchNorm2d` has them.

        ``keys`` are those of the images, where parts of the maps are to be dropped.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        """Features of images; ``rows`` limits batch-norm statistics to the first images of a task."""
        first = next(module for module in self.modules() if isinstance(module, Conv2d))
        tasks, per_task = len(x), first.weight.dim() == 5
        last = self._map(fold(x, per_task), rows, tasks, self._keys(x))
        return unfold(last, tasks, per_task)

    def one_task(self, x: Tensor) -> Tensor:
        """Features [B, ``features``] of the images [B, C, H, W] of one task, in x's layout."""
        return self._map(x, None, 1, self._keys(x[None])).flatten(1)

    def _keys(self, x: Tensor) -> Tensor | None:
        return self.noise.keys(x) if self.noise and self.training else None

    def _map(self, x: Tensor, rows: int | None, tasks: int, keys: Tensor | None) -> Tensor:
        with self.arithmetic(x):
            last = self.last_map(x, rows, tasks, keys)
            if self.average:
                last = last.mean((-2, -1), keepdim=True)
        return last.to(x.dtype)
