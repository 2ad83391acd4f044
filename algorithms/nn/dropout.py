"""Deterministic dropout: the mask is a hash of the image, the layer and the outer step.

With a random generator, the mask of an image would change when a meta-batch is split into other
chunks, or when a run is resumed. Here it is a hash of the bits of the image's pixels, of the
position in the network and of the number of outer steps so far. So it is the same in every chunk,
thread and process; it needs no host sync, and a step can be captured in a CUDA graph. Passes of the
same images within one outer step, as in an inner loop, share their masks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HashedDropout(nn.Module):
    """A counter of outer steps, from which it derives the dropout keys of images.

    The runner advances it through `advance_step`.
    """

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def keys(self, images: Tensor) -> Tensor:
        """Return a 64-bit key for each image of [T, B, C, H, W], as int64 [T, B]."""
        kind = {4: torch.int32, 8: torch.int64}[images.element_size()]
        bits = images.flatten(2).contiguous().view(kind).long()
        # Odd factors are invertible modulo 2^64, so no bit of a pixel is lost.
        factors = splitmix64(torch.arange(bits.shape[-1], device=bits.device)) | 1
        # Integer sums wrap, so they do not depend on the order of summation.
        return splitmix64((bits * factors).sum(-1) + splitmix64(self.steps + 1))


def advance_step(learner: nn.Module) -> None:
    """Advance the step counter of every `HashedDropout` in a learner by one outer step."""
    for module in learner.modules():
        if isinstance(module, HashedDropout):
            module.steps += 1


def dropout(x: Tensor, keys: Tensor, site: int, rate: float) -> Tensor:
    """Drop elements of maps with probability ``rate`` and rescale the others.

    See Srivastava et al. 2014.

    Args:
        x: Maps [T*B, C, H, W] or [B, T*C, H, W], see `algorithms.nn.layers`.
        keys: The keys [T, B] of the images.
        site: A number that is unique to the position in the network.
        rate: The probability that an element is dropped.
    """
    kept = _uniform(keys, site, *_sizes(x, keys)) >= rate
    return x * (_as_maps(kept, x) / (1 - rate))


def drop_block(x: Tensor, keys: Tensor, site: int, rate: Tensor, block: int) -> Tensor:
    """Drop squares of maps, about ``rate`` (a scalar) of the area (Ghiasi et al. 2018).

    Shapes are as in `dropout`. With S = ``block``, or the side of a smaller map, each S x S square
    inside a map of H x W is dropped with probability

        rate / S^2 * H W / ((H - S + 1) (W - S + 1)),

    and the remaining elements of a task's maps are multiplied by (all elements) / (elements kept).
    (In MetaOptNet's official code that factor is shared by all images of a batch, whatever their
    task.)
    """
    channels, height, width = _sizes(x, keys)
    side = min(block, height, width)
    rows, columns = height - side + 1, width - side + 1
    chance = rate * (height * width / (side**2 * rows * columns))
    drawn = _uniform(keys, site, channels, rows, columns) < chance
    corners = drawn.to(torch.promote_types(x.dtype, torch.float32))
    edge = side - 1
    dropped = F.max_pool2d(F.pad(corners.flatten(0, 1), [edge] * 4), side, stride=1)
    kept = 1 - dropped.unflatten(0, keys.shape)
    share = kept.mean((1, 2, 3, 4), keepdim=True)
    return x * _as_maps(kept / share.clamp(min=torch.finfo(share.dtype).tiny), x)


def splitmix64(words: Tensor) -> Tensor:
    """Return random-looking words for distinct int64 words.

    This is the finaliser of SplitMix64 (Steele et al. 2014).
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ _shifted(words, shift)) * (factor - 2**64)
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, count: int) -> Tensor:
    """Return unsigned words, held in int64, shifted to the right."""
    return words >> count & (1 << 64 - count) - 1


def _sizes(x: Tensor, keys: Tensor) -> tuple[int, int, int]:
    """Return the channels, height and width of the maps of one image."""
    channels = len(x) * x.shape[1] // keys.numel()
    return channels, *x.shape[2:]


def _uniform(keys: Tensor, site: int, channels: int, height: int, width: int) -> Tensor:
    """Return numbers in [0, 1), multiples of 2^-24, as float32 [T, B, C, H, W].

    Channels are innermost in memory.
    """
    places = torch.arange(site << 32, (site << 32) + height * width * channels, device=keys.device)
    words = splitmix64(keys[..., None] + places * (0x9E3779B97F4A7C15 - 2**64))
    numbers = (words >> 40 & 0xFFFFFF).float().mul_(2.0**-24)
    result: Tensor = numbers.unflatten(-1, (height, width, channels)).movedim(-1, -3)
    return result


def _as_maps(mask: Tensor, x: Tensor) -> Tensor:
    """Return a mask [T, B, C, H, W] in the shape and dtype of maps ``x``."""
    per_task = len(x) != mask.shape[0] * mask.shape[1]
    mask = mask.transpose(0, 1).flatten(1, 2) if per_task else mask.flatten(0, 1)
    return mask.to(x.dtype)
