"""The sampler of numbered episodes: every learner sees the same episodes."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial

import torch
from torch import Tensor

from algorithms.learner import Setting, TaskBatch
from bench.core.errors import UserError
from bench.core.philox import key_of, philox
from bench.tasks.base import Domain, Tasks
from bench.tasks.classification.domain import Classification
from bench.tasks.pool import Dataset, Pool


class EpisodeSampler:
    """Episodes (tasks) of one setting from one pool, addressed by number.

    Episode ``i`` is a pure function of ``axes`` (such as data digest, split, purpose, seed), the
    setting and ``i``: not of the learner, the meta-batch, the device or earlier draws. Classes are
    drawn uniformly without replacement (no two rotations of one drawing, or all from one group, drawn
    uniformly before, if the pool says so) and get the labels 0..N-1 in the order of the draw; each
    provides K + Q examples, uniformly without replacement, the first K of them for the support set.
    Without classes, an episode is one of the pool's functions, and its targets are those of the pool.
    If the domain tests all, all other examples of an episode's classes are its queries, and Q is 0.

    ``pool`` should be on the device where the episodes are needed. With ``features``, learners see
    these instead of the pool's inputs; they are computed when an episode is first drawn.
    """

    def __init__(
        self,
        pool: Pool,
        setting: Setting,
        axes: tuple[object, ...],
        domain: Domain | None = None,
        features: Callable[[], Tensor] | None = None,
    ) -> None:
        self.domain = domain or Classification()
        if self.domain.tests_all:
            setting = setting._replace(queries=0)
        check_setting(pool, setting, self.domain)
        self.pool = pool
        self._features = features
        self.setting = setting
        self.key = key_of(*axes, *setting)
        self._largest_class = int(pool.sizes.max())
        self._choices = pool.choices
        self._groups = groups_to_draw_from(pool, setting) if pool.within_group else None
        # Index sampling is vectorised, so indices are computed for many episodes at once, as
        # far as memory allows.
        groups, shots, queries = setting.groups, setting.shots, setting.queries
        widest = max(len(pool.names), groups * self._largest_class)
        self._ahead = max(1, min(1024, PLAN_ELEMENTS // widest))
        self._planned = range(0)
        self._plan = self._plan_classes = pool.offsets.new_empty(0)
        labels = torch.arange(groups, device=pool.offsets.device)
        self._support_y = labels[:, None].expand(-1, shots)
        self._query_y = labels.repeat_interleave(queries)

    @property
    def device(self) -> torch.device:
        """The device of the episodes."""
        return self.pool.offsets.device

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes of the pool."""
        return self.pool.names

    @cached_property
    def inputs(self) -> Tensor:
        """What learners see of the examples of the pool, [M, ...]."""
        return self._features().to(self.device) if self._features else self.pool.inputs

    def indices(self, first: int, count: int) -> Tensor:
        """Return the examples of episodes ``first .. first+count-1`` as pool indices: [T, N, K+Q]."""
        ways, per_class = self.setting.groups, self.setting.shots + self.setting.queries
        device = self.device
        number = torch.arange(first, first + count, device=device)[:, None]
        choices, turns = self._choices.shape
        draws = ways + ways * per_class + (ways if turns > 1 else 0) + (1 if self._groups else 0)
        block = torch.arange(-(-draws // 4), device=device)
        words = philox(
            self.key, (number & 0xFFFFFFFF, number >> 32, block, torch.zeros_like(block))
        )
        words = words.flatten(1)[:, :draws]
        sizes = self.pool.sizes
        if self._groups:
            members, member_counts = self._groups
            group, words = words[:, -1] * len(members) >> 32, words[:, :-1]
            places = sample_without_replacement(
                words[:, :ways], member_counts[group], members.shape[1]
            )
            chosen = members[group].gather(1, places)
        else:
            among = torch.full((count,), choices, device=device)
            chosen = sample_without_replacement(words[:, :ways], among, choices)
        of_examples = words[:, ways : ways + ways * per_class].view(count, ways, per_class)
        turn = words[:, -ways:] * turns >> 32 if turns > 1 else 0
        classes = self._choices[chosen, turn]
        within = sample_without_replacement(of_examples, sizes[classes], self._largest_class)
        return self.pool.offsets[classes][..., None] + within

    def classes(self, first: int, count: int) -> Tensor:
        """Return the classes [T, N] of episodes ``first .. first+count-1``, in label order."""
        return self._classes_of(self.indices(first, count))

    def _classes_of(self, indices: Tensor) -> Tensor:
        """Return the classes [T, N] that own indices [T, N, K+Q] of the pool."""
        return torch.searchsorted(self.pool.offsets, indices[..., 0].contiguous(), right=True) - 1

    def draw(self, first: int, count: int) -> TaskBatch:
        """Return episodes ``first .. first+count-1`` as a meta-batch of ``count`` tasks.

        Images are uint8.
        """
        if not (first in self._planned and first + count <= self._planned.stop):
            self._planned = range(first, first + max(count, self._ahead))
            self._plan = self.indices(first, len(self._planned))
            self._plan_classes = self._classes_of(self._plan)
        begin = first - self._planned.start
        plan = self._plan[begin : begin + count]
        shots = self.setting.shots
        support, query = plan[..., :shots], plan[..., shots:].flatten(1)
        support_y, query_y = self._support_y.expand(count, -1, -1), self._query_y.expand(count, -1)
        if self.pool.targets is not None:
            support_y, query_y = (_at(self.pool.targets, indices) for indices in (support, query))
        classes = self._plan_classes[begin : begin + count]
        if self.domain.tests_all:
            query_x, query_y = self._others(support, classes)
        else:
            query_x = _at(self.inputs, query)
        batch = TaskBatch(_at(self.inputs, support), support_y, query_x, query_y, classes)
        return self.domain.arrange(batch)

    def _others(self, support: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return all examples [T, M, ...] as queries, with the label -1 for those that are none.

        These are the support set [T, N, K] and what is of other classes than those [T, N] of a task.
        """
        tasks, ways = classes.shape
        labels = classes.new_full((tasks, len(self.pool.names)), -1)
        labels.scatter_(1, classes, torch.arange(ways, device=self.device).expand(tasks, -1))
        labels = labels.repeat_interleave(self.pool.sizes, 1)
        labels.scatter_(1, support.flatten(1), -1)
        return self.inputs.expand(tasks, *self.inputs.shape), labels

    def tasks(self, first: int, count: int) -> Tasks:
        """Return what an evaluation knows of episodes ``first .. first+count-1``."""
        hidden = self.pool.hidden
        if hidden is not None:
            hidden = hidden[self.classes(first, count)[:, 0]]
        return Tasks(first + torch.arange(count, device=self.device), hidden)

    def columns(self, count: int) -> dict[str, list[str]]:
        """Return the numbers of the classes of the first ``count`` episodes and of their groups.

        A rotated class has the number of its base class, and a group that of its first class.
        """
        classes = self.classes(0, count)
        return {
            "classes": _joined(self.pool.base_class[classes]),
            "groups": _joined(self.pool.grouped[classes]),
        }

    def digest(self, count: int) -> str:
        """Return a short SHA-256 of the first ``count`` episodes.

        Equal digests mean equal images and labels.
        """
        indices = self.indices(0, count).cpu().contiguous()
        return hashlib.sha256(repr(self.key).encode() + indices.numpy().tobytes()).hexdigest()[:16]


def groups_to_draw_from(pool: Pool, setting: Setting) -> tuple[Tensor, Tensor]:
    """Return the groups with enough classes: rows of the pool's choices, padded, and their numbers.

    The shapes are [G, largest] and [G], int64.
    """
    group = pool.grouped[pool.choices[:, 0]]
    members = [found for g in group.unique() if len(found := (group == g).nonzero()[:, 0])
               >= setting.groups]  # fmt: skip
    counts = group.new_tensor([len(found) for found in members])
    return torch.nn.utils.rnn.pad_sequence(members, batch_first=True), counts


def episodes_of(
    dataset: Dataset, split: str, setting: Setting, device: torch.device, *axes: object
) -> EpisodeSampler:
    """Return the episodes of a split of a data set, on a device; ``axes`` begin with the purpose."""
    pool, features = dataset.pool(split), None
    if dataset.encoding:
        pool = replace(pool, inputs=pool.inputs[:0])
        features = partial(dataset.features, split)
    return EpisodeSampler(
        pool.to(device), setting, (dataset.digest, split, *axes), dataset.domain, features
    )


def _at(values: Tensor, indices: Tensor) -> Tensor:
    """Return the values of indices of any shape."""
    return values.index_select(0, indices.flatten()).view(*indices.shape, *values.shape[1:])


def _joined(numbers: Tensor) -> list[str]:
    """Return the numbers of each row as a string."""
    return [" ".join(map(str, row)) for row in numbers.tolist()]


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


LEAST_QUERIES = 2
"""Queries a class where all other examples are tested: fewer have no variance."""


def most_ways(pool: Pool) -> int:
    """Return the largest number of classes that an episode can have."""
    if not pool.within_group:
        return len(pool.choices)
    return int(pool.grouped[pool.choices[:, 0]].bincount().max())


def check_setting(pool: Pool, setting: Setting, domain: Domain) -> None:
    """Raise UserError if the pool has too few classes, or a class too few examples, for a setting."""
    if setting.groups > (most := len(pool.choices)):
        raise UserError(
            f"ways={setting.ways} is more than the {most} classes there are to draw from; "
            f"choose ways of at most {most}."
        )
    if setting.groups > (most := most_ways(pool)):
        raise UserError(
            f"ways={setting.ways} is more than the {most} classes of the largest group; choose ways of "
            f"at most {most}, or leave out dataset.within."
        )
    smallest = int(pool.sizes.argmin())
    size, wanted = int(pool.sizes[smallest]), setting.shots + setting.queries
    if domain.tests_all and setting.shots > size - LEAST_QUERIES:
        raise UserError(
            f"shots={setting.shots} of the {size} examples of class {pool.names[smallest]!r} leave too "
            f"few to be tested on; ask for shots of at most {size - LEAST_QUERIES}."
        )
    if wanted > size:
        raise UserError(
            f"shots={setting.shots} plus queries={setting.queries} is {wanted} examples a class, but "
            f"class {pool.names[smallest]!r} has only {size}; ask for at most {size} in all."
        )
