"""Networks from images to features."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Maps images [T, B, C, H, W] of T tasks to features [T, B, ``features``].

    Made of `algorithms.layers`, it runs with shared weights or, by `algorithms.classifier.with_weights`,
    with weights per task. A backbone is built from the shape (C, H, W) of an image and its options.
    """

    features: int

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        """Features; ``rows`` limits batch-norm statistics to the first images of each task."""
        raise NotImplementedError

    def one_task(self, x: Tensor) -> Tensor:
        """Features [B, ``features``] of the images [B, C, H, W] of one task, with shared weights.

        For code that knows nothing of tasks; a backbone may run it in the layout that x has.
        """
        return self(x[None])[0]
