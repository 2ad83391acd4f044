"""The sampler of numbered episodes: every learner sees the same episodes."""

import hashlib

import torch
from torch import Tensor

from algorithms.learner import Episodes, Shape
from bench.core.errors import UserError
from bench.core.philox import key_of, philox
from bench.tasks.classification.pool import Pool


class EpisodeSampler:
    """Episodes of one shape from one pool, addressed by number.

    Episode ``i`` is a pure function of ``axes`` (such as data digest, split, purpose, seed), the
    shape and ``i``: not of the learner, the meta-batch, the device or earlier draws. Classes are
    drawn uniformly without replacement (and no two rotations of one drawing, if the pool says so)
    and get the labels 0..N-1 in the order of the draw; each provides K + Q images, uniformly
    without replacement, the first K of them for the support set.

    ``pool`` should be on the device where the episodes are needed.
    """

    def __init__(self, pool: Pool, shape: Shape, axes: tuple[object, ...]) -> None:
        check_shape(pool, shape)
        self.pool = pool
        self.shape = shape
        self.key = key_of(*axes, *shape)
        self._largest_class = int(pool.sizes.max())
        self._choices = pool.choices
        # Index sampling is vectorised, so indices are computed for many episodes at once, as
        # far as memory allows.
        widest = max(len(pool.names), shape.ways * self._largest_class)
        self._ahead = max(1, min(1024, PLAN_ELEMENTS // widest))
        self._planned = range(0)
        self._plan = self._plan_classes = pool.offsets.new_empty(0)
        labels = torch.arange(shape.ways, device=pool.offsets.device)
        self._support_y = labels[:, None].expand(-1, shape.shots)
        self._query_y = labels.repeat_interleave(shape.queries)

    def rows(self, first: int, count: int) -> Tensor:
        """Return the images of episodes ``first .. first+count-1`` as pool rows: [T, N, K+Q]."""
        ways, per_class = self.shape.ways, self.shape.shots + self.shape.queries
        device = self.pool.offsets.device
        number = torch.arange(first, first + count, device=device)[:, None]
        choices, turns = self._choices.shape
        draws = ways + ways * per_class + (ways if turns > 1 else 0)
        block = torch.arange(-(-draws // 4), device=device)
        words = philox(
            self.key, (number & 0xFFFFFFFF, number >> 32, block, torch.zeros_like(block))
        )
        words = words.flatten(1)[:, :draws]
        sizes = self.pool.sizes
        among = torch.full((count,), choices, device=device)
        chosen = sample_without_replacement(words[:, :ways], among, choices)
        of_images = words[:, ways : ways + ways * per_class].view(count, ways, per_class)
        turn = words[:, -ways:] * turns >> 32 if turns > 1 else 0
        classes = self._choices[chosen, turn]
        within = sample_without_replacement(of_images, sizes[classes], self._largest_class)
        return self.pool.offsets[classes][..., None] + within

    def classes(self, first: int, count: int) -> Tensor:
        """Return the classes [T, N] of episodes ``first .. first+count-1``, in label order."""
        return self._classes_of(self.rows(first, count))

    def _classes_of(self, rows: Tensor) -> Tensor:
        """Return the classes [T, N] that own rows [T, N, K+Q] of the pool."""
        return torch.searchsorted(self.pool.offsets, rows[..., 0].contiguous(), right=True) - 1

    def draw(self, first: int, count: int) -> Episodes:
        """Return episodes ``first .. first+count-1`` as a meta-batch of ``count`` tasks.

        Images are uint8.
        """
        if not (first in self._planned and first + count <= self._planned.stop):
            self._planned = range(first, first + max(count, self._ahead))
            self._plan = self.rows(first, len(self._planned))
            self._plan_classes = self._classes_of(self._plan)
        begin = first - self._planned.start
        plan = self._plan[begin : begin + count]
        shots, queries = self.shape.shots, self.shape.queries
        return Episodes(
            self._images(plan[..., :shots]),
            self._support_y.expand(count, -1, -1),
            self._images(plan[..., shots : shots + queries]).flatten(1, 2),
            self._query_y.expand(count, -1),
            self._plan_classes[begin : begin + count],
        )

    def digest(self, count: int) -> str:
        """Return a short SHA-256 of the first ``count`` episodes.

        Equal digests mean equal images and labels.
        """
        rows = self.rows(0, count).cpu().contiguous()
        return hashlib.sha256(repr(self.key).encode() + rows.numpy().tobytes()).hexdigest()[:16]

    def _images(self, rows: Tensor) -> Tensor:
        images = self.pool.images.index_select(0, rows.flatten())
        return images.view(*rows.shape, *self.pool.images.shape[1:])


PLAN_ELEMENTS = 2**24
"""Maximum elements of the shuffled decks: limits the memory of planning to tens of MiB."""


def sample_without_replacement(words: Tensor, sizes: Tensor, largest: int) -> Tensor:
    """Draw m distinct numbers below each size, in random order, from m random 32-bit words each.

    This is a Fisher-Yates shuffle, stopped after m swaps, batched over many arrays.

    Args:
        words: The random words, int64 [..., m].
        sizes: The sizes, int64 [...], with m <= size <= ``largest``.
        largest: An upper bound of the sizes.

    Returns:
        The numbers, int64 [..., m].
    """
    steps = torch.arange(words.shape[-1], device=words.device)
    positions = steps + (words * (sizes[..., None] - steps) >> 32)
    narrow = torch.int16 if largest <= torch.iinfo(torch.int16).max else torch.int32
    deck = torch.arange(largest, device=words.device, dtype=narrow)
    deck = deck.expand(*sizes.shape, largest).clone()
    drawn = torch.empty_like(words, dtype=narrow)
    for step in range(words.shape[-1]):
        position = positions[..., step : step + 1]
        drawn[..., step : step + 1] = deck.gather(-1, position)
        deck.scatter_(-1, position, deck[..., step : step + 1].clone())
    return drawn.long()


def check_shape(pool: Pool, shape: Shape) -> None:
    """Raise UserError if the pool has too few classes, or a class too few images, for the shape."""
    if shape.ways > (most := len(pool.choices)):
        raise UserError(
            f"ways={shape.ways} is more than the {most} classes there are to draw from; "
            f"choose ways of at most {most}."
        )
    smallest = int(pool.sizes.argmin())
    size, wanted = int(pool.sizes[smallest]), shape.shots + shape.queries
    if wanted > size:
        raise UserError(
            f"shots={shape.shots} plus queries={shape.queries} is {wanted} images a class, but "
            f"class {pool.names[smallest]!r} has only {size}; ask for at most {size} in all."
        )
