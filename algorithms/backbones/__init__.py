"""Backbones: networks that map inputs, such as images, to features."""

from collections.abc import Collection
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.nn.dropout import HashedDropout
from algorithms.nn.functional import with_tensors
from algorithms.nn.layers import Conv2d, from_grouped, to_grouped

Spatial = Literal["flatten", "mean"]
"""How the spatial positions of the last feature map become features: flattened, or averaged."""


class Backbone(nn.Module):
    """A network from inputs [T, B, ...] of T tasks to features [T, B, ``num_features``].

    Base class of all backbones. Because it is built from the layers of `algorithms.nn.layers`, a
    backbone runs with shared weights or, through `algorithms.nn.functional.with_tensors`, with
    weights per task. Its constructor takes the shape of an input, such as (C, H, W), and the
    options of the backbone.
    """

    num_features: int

    supports_weights_per_task: ClassVar[bool] = True
    """Whether it runs with weights per task, which learners with an inner loop need."""

    reads_texts: ClassVar[bool] = False
    """Whether its inputs are texts: bytes of UTF-8, uint8 [L], with zeros behind the end."""

    not_adapted: Collection[str] = ()
    """Names of parameters that the inner loop of MAML leaves alone, such as a table of vectors."""

    use_bfloat16: bool = False
    """Whether convolutions and matrix products round their inputs to bfloat16.

    Set by the runner. Weights, accumulation and features keep their dtype.
    """

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the features [T, B, ``num_features``] of inputs.

        ``stats_from`` limits batch-norm statistics to the first inputs of each task.
        """
        raise NotImplementedError

    def forward_per_task(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the features, each task normalised by its own inputs, in evaluation as well."""
        weights = {name: p.expand(len(x), *p.shape) for name, p in self.named_parameters()}
        result: Tensor = with_tensors(self, weights)(x, stats_from)
        return result

    def forward_single_task(self, x: Tensor) -> Tensor:
        """Return features [B, ``num_features``] of one task's inputs [B, ...], shared weights.

        For code without a task axis; a backbone may run it in the memory format of ``x``.
        """
        result: Tensor = self(x[None])[0]
        return result

    def autocast(self, x: Tensor) -> torch.autocast:
        """Return the autocast context for the layers in ``forward``, see ``use_bfloat16``."""
        # No cache of rounded weights: a captured CUDA graph would replay stale ones.
        return torch.autocast(
            x.device.type, torch.bfloat16, enabled=self.use_bfloat16, cache_enabled=False
        )


def check_images(input_shape: tuple[int, ...], poolings: int) -> None:
    """Raise ValueError for inputs other than images (C, H, W), or if 2x2 poolings leave nothing."""
    if len(input_shape) != 3:
        raise ValueError(
            f"convolutions need images [C, H, W], not inputs of shape {list(input_shape)}"
        )
    if poolings and min(input_shape[1:]) < 2**poolings:
        raise ValueError("four 2x2 poolings need images of at least 16x16 pixels")


class Convolutional(Backbone):
    """A convolutional backbone, whose last feature map becomes the features.

    Its convolutions are those of `algorithms.nn.layers`. With ``noisy``, training applies dropout
    to feature maps, see `algorithms.nn.dropout`.
    """

    def __init__(self, spatial: Spatial, noisy: bool = False) -> None:
        super().__init__()
        self.average = spatial == "mean"
        self.noise = HashedDropout() if noisy else None

    def feature_map(
        self, x: Tensor, stats_from: int | None, tasks: int, keys: Tensor | None
    ) -> Tensor:
        """Return the last feature map of images; both are [B, G*C, H, W].

        Args:
            x: The images.
            stats_from: Number of leading images that give the statistics, see `BatchNorm2d`.
            tasks: Number of tasks in the batch, see `BatchNorm2d`.
            keys: Dropout keys of the images; None without dropout.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the features of images.

        ``stats_from`` limits batch-norm statistics to the first images of each task.
        """
        first = next(module for module in self.modules() if isinstance(module, Conv2d))
        tasks, per_task = len(x), first.weight.dim() == 5
        last = self._map(to_grouped(x, per_task), stats_from, tasks, self._keys(x))
        return from_grouped(last, tasks, per_task)

    def forward_single_task(self, x: Tensor) -> Tensor:
        """Return features [B, ``num_features``] of one task's images [B, C, H, W].

        The memory format is that of ``x``.
        """
        return self._map(x, None, 1, self._keys(x[None])).flatten(1)

    def _keys(self, x: Tensor) -> Tensor | None:
        return self.noise.keys(x) if self.noise and self.training else None

    def _map(self, x: Tensor, stats_from: int | None, tasks: int, keys: Tensor | None) -> Tensor:
        with self.autocast(x):
            last = self.feature_map(x, stats_from, tasks, keys)
            if self.average:
                last = last.mean((-2, -1), keepdim=True)
        return last.to(x.dtype)
