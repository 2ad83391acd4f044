"""Dropout whose masks belong to the images, however tasks are put together.

A random generator would give an image another mask when a meta-batch is cut into other chunks, or when a
run goes on after an interruption. Here the mask of an image is a hash of the bits of its pixels, of the
place in the network and of the number of outer steps so far. So it is the same in every chunk, thread
and process, nothing waits for the device, and a step can be recorded. Passes of the same images within
one outer step, as those of an inner loop, have the same masks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Noise(nn.Module):
    """Counts outer steps, which the runner tells it of by `count_step`, and makes keys of images."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def keys(self, images: Tensor) -> Tensor:
        """A word for each image of [T, B, C, H, W], int64 [T, B]."""
        kind = {4: torch.int32, 8: torch.int64}[images.element_size()]
        bits = images.flatten(2).contiguous().view(kind).long()
        # Odd, so that no bit of a pixel is lost.
        factors = scrambled(torch.arange(bits.shape[-1], device=bits.device)) | 1
        # Sums of whole numbers wrap, and are the same in any order.
        return scrambled((bits * factors).sum(-1) + scrambled(self.steps + 1))


def count_step(learner: nn.Module) -> None:
    """Tell all noise of a learner that an outer step was done."""
    for module in learner.modules():
        if isinstance(module, Noise):
            module.steps += 1


def dropout(x: Tensor, keys: Tensor, site: int, rate: float) -> Tensor:
    """Each element of maps is dropped with probability ``rate``; the others make up for it.

    ``x`` is [T*B, C, H, W] or [B, T*C, H, W] of images with ``keys`` [T, B], see `algorithms.layers`;
    ``site`` tells the places of a network apart (Srivastava et al. 2014).
    """
    kept = _uniform(keys, site, *_sizes(x, keys)) >= rate
    return x * (_as_maps(kept, x) / (1 - rate))


def drop_block(x: Tensor, keys: Tensor, site: int, rate: Tensor, block: int) -> Tensor:
    """Squares of maps are dropped, about ``rate`` (a scalar) of the area (Ghiasi et al. 2018).

    Sizes are as in `dropout`. With S = ``block``, or the side of a smaller map, each S x S square inside
    a map of H x W is dropped with probability

        rate / S^2 * H W / ((H - S + 1) (W - S + 1)),

    and what is left of a task's maps is multiplied by their elements / elements left. (In MetaOptNet's
    official code that factor is the same for all images of a batch, whatever their task.)
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


def scrambled(words: Tensor) -> Tensor:
    """Random-looking words from distinct int64 ones: the finaliser of SplitMix64 (Steele et al. 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ _shifted(words, shift)) * (factor - 2**64)
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, count: int) -> Tensor:
    """Unsigned words, held in int64, shifted to the right."""
    return words >> count & (1 << 64 - count) - 1


def _sizes(x: Tensor, keys: Tensor) -> tuple[int, int, int]:
    """Channels, height and width of the maps of one image."""
    channels = len(x) * x.shape[1] // keys.numel()
    return channels, *x.shape[2:]


def _uniform(keys: Tensor, site: int, channels: int, height: int, width: int) -> Tensor:
    """Numbers in [0, 1), multiples of 2^-24, as float32 [T, B, C, H, W]; channels innermost in memory."""
    places = torch.arange(site << 32, (site << 32) + height * width * channels, device=keys.device)
    words = scrambled(keys[..., None] + places * (0x9E3779B97F4A7C15 - 2**64))
    numbers = (words >> 40 & 0xFFFFFF).float().mul_(2.0**-24)
    return numbers.unflatten(-1, (height, width, channels)).movedim(-1, -3)


def _as_maps(mask: Tensor, x: Tensor) -> Tensor:
    """A mask [T, B, C, H, W] laid out, and of the type, as maps ``x`` are."""
    per_task = len(x) != mask.shape[0] * mask.shape[1]
    mask = mask.transpose(0, 1).flatten(1, 2) if per_task else mask.flatten(0, 1)
    return mask.to(x.dtype)
