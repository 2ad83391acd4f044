"""Colour histogram and histogram of oriented gradients: features of images without any training.

Dalal, Triggs 2005, "Histograms of oriented gradients for human detection", as scikit-image has it,
beside a joint histogram of the colours. Nearest centroids of these are a floor for photographs.
"""

import hashlib

import numpy as np
import torch
from PIL import Image
from skimage.feature import hog
from torch import Tensor

from algorithms.backbones.encoder import Encoder, Preparation

BINS = 4
"""Bins of each colour in the histogram."""


class Hog(Encoder):
    """A joint colour histogram and HOG, each of unit length, of the central square of an image.

    The square has ``size`` pixels a side, its cells ``cell``; blocks are of 2 x 2 cells with 9
    orientations.
    """

    def __init__(self, input_shape: tuple[int, ...], *, size: int = 64, cell: int = 16) -> None:
        super().__init__()
        self.cell = cell
        self.preparation = Preparation(size, crop=1.0, interpolation="lanczos")
        self.num_features = len(self.prepare(Image.new("RGB", (size, size))))
        self.digest = hashlib.sha256(f"hog {BINS} {cell} {self.preparation}".encode()).hexdigest()

    def prepare(self, image: Image.Image) -> Tensor:
        """Return the features of an image [F]."""
        pixels = self.preparation.square(image).numpy()
        index = (pixels.astype(np.int64) * BINS // 256 * BINS ** np.arange(3)[:, None, None]).sum(0)
        colours = np.sqrt(np.bincount(index.ravel(), minlength=BINS**3) / index.size)
        shapes = hog(
            pixels, pixels_per_cell=(self.cell,) * 2, cells_per_block=(2, 2), channel_axis=0
        )
        shapes = shapes / max(1e-9, float(np.linalg.norm(shapes)))
        return torch.from_numpy(np.concatenate([colours, shapes])).float()

    def encode(self, prepared: Tensor) -> Tensor:
        """Return the prepared features unchanged."""
        return prepared
