"""A convolutional network on the bytes of texts: no vocabulary, and any script."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.nn.layers import Conv2d, Embedding


class Bytes(Backbone):
    """Learned vectors of bytes, convolutions along the text, and the maximum over its places.

    Maps texts, uint8 [T, B, L] with zeros behind the end, to features [T, B, ``filters``]. The first
    ``length`` bytes are read, vectors have ``dim`` elements, and each of ``layers`` convolutions sees
    ``width`` places. Capitals of A to Z are read as small letters. Zeros behind a text have no
    influence, however many there are.
    """

    reads_texts = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        length: int = 256,
        dim: int = 64,
        filters: int = 128,
        width: int = 5,
        layers: int = 2,
    ) -> None:
        super().__init__()
        if min(length, layers) < 1 or width % 2 == 0:
            raise ValueError("length and layers must be at least 1, and width odd")
        self.length = length
        self.embedding = Embedding(256, dim)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.convolutions = nn.ModuleList(
            Conv2d(size, filters, (1, width), padding=(0, width // 2))
            for size in [dim] + (layers - 1) * [filters]
        )
        self.num_features = filters

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the features of texts; there are no batch statistics."""
        x = x[..., : self.length].int()
        x = torch.where((x >= ord("A")) & (x <= ord("Z")), x + 32, x)
        tasks, per_task = len(x), self.embedding.weight.dim() == 3
        vectors, mask = self.embedding(x), (x != 0).unsqueeze(-1)
        mask = mask.to(vectors.dtype)
        if per_task:  # to [B, L, T, ...], the layout of `algorithms.nn.layers`
            vectors, mask = vectors.permute(1, 2, 0, 3), mask.permute(1, 2, 0, 3)
        else:
            vectors, mask = (each.flatten(0, 1).unsqueeze(2) for each in (vectors, mask))
        with self.autocast(x):
            y = vectors * mask
            for convolution in self.convolutions:
                maps = convolution(y.flatten(2).transpose(1, 2).unsqueeze(2))
                y = maps.squeeze(2).transpose(1, 2).unflatten(2, (y.shape[2], -1))
                y = F.relu(y) * mask
        tops: Tensor = y.amax(1).to(vectors.dtype)  # [B, T, F], or [T*B, 1, F]
        return tops.transpose(0, 1) if per_task else tops.view(tasks, -1, self.num_features)
