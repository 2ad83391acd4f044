"""Images of one split, ready to be drawn from."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Pool:
    """The images of one split, grouped by class.

    ``images`` is uint8 [M, C, H, W]; class ``c`` owns the rows ``offsets[c]`` to ``offsets[c + 1]``
    (``offsets`` is int64 [classes + 1]); ``names`` holds one name a class. With ``one_turn``, of the
    turned classes of a drawing (see `rotated`) an episode has one, at random, and never two.
    ``groups`` holds the name of each class's group, of classes that are alike for a reason, such as a
    letter and its accented forms; it is empty where each class (or drawing) is a group of its own.
    """

    images: Tensor
    offsets: Tensor
    names: tuple[str, ...]
    one_turn: bool = False
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, classes: Mapping[str, Tensor]) -> "Pool":
        """A pool of these classes, in this order; each is uint8 [n, C, H, W] with an n of its own."""
        sizes = torch.tensor([0] + [len(images) for images in classes.values()])
        return cls(torch.cat(list(classes.values())), sizes.cumsum(0), tuple(classes))

    @property
    def sizes(self) -> Tensor:
        """Images per class, int64 [classes]."""
        return self.offsets.diff()

    @property
    def unturned(self) -> Tensor:
        """For each class the number of the first one that shows the same drawings, int64 [classes].

        That is its own, but for the turned classes of `rotated`.
        """
        return self._first(re.sub("@(90|180|270)$", "", name) for name in self.names)

    @property
    def grouped(self) -> Tensor:
        """For each class the number of the first one of its group, int64 [classes]."""
        return self._first(self.groups) if self.groups else self.unturned

    def _first(self, texts: Iterable[str]) -> Tensor:
        """For each class the number of the first one with the same text, int64 [classes]."""
        first: dict[str, int] = {}
        return self.offsets.new_tensor([first.setdefault(text, n) for n, text in enumerate(texts)])

    @property
    def choices(self) -> Tensor:
        """The classes that an episode has at most one of, a row each: int64 [choices, 1 or 4]."""
        if not self.one_turn:
            return torch.arange(len(self.names), device=self.offsets.device)[:, None]
        return self.unturned.argsort(stable=True).view(-1, 4)

    def to(self, device: torch.device | str) -> "Pool":
        """The same pool with its tensors on another device."""
        return replace(self, images=self.images.to(device), offsets=self.offsets.to(device))

    def rotated(self) -> "Pool":
        """Four times the classes: as they are, then each turned by 90, 180 and 270 degrees.

        Images must be square. A turned class is a class of its own (Santoro et al. 2016).
        """
        # numpy turns without a copy of its own, which makes this twice as fast as torch.rot90
        turned = [np.rot90(self.images.numpy(), quarter, (-2, -1)) for quarter in range(4)]
        starts = [self.offsets[:-1] + quarter * len(self.images) for quarter in range(4)]
        return Pool(
            torch.from_numpy(np.concatenate(turned)),
            torch.cat([*starts, torch.tensor([4 * len(self.images)])]),
            self.names + tuple(f"{name}@{turn}" for turn in (90, 180, 270) for name in self.names),
            groups=4 * self.groups,
        )


@dataclass(frozen=True)
class Dataset:
    """A prepared data set: class-disjoint ``train``, ``val`` and ``test`` pools and a content digest.

    ``digest`` is the SHA-256 (hexadecimal) of all images, class names and splits, or follows from
    it where the data set is derived by a rule. ``known_shared`` is how many distinct images the
    official data has in more than one split, None where nobody knows, see `bench.data.guard.check`.
    """

    name: str
    digest: str
    splits: dict[str, Pool]
    known_shared: int | None = 0

    @classmethod
    def of(cls, name: str, splits: dict[str, Pool]) -> "Dataset":
        """A data set of these splits, with its digest worked out."""
        return cls(name, content_digest(splits), splits)

    def pool(self, split: str) -> Pool:
        """The pool of a split, or of several together: ``train+val`` has the classes of both."""
        parts = [self.splits[name] for name in split.split("+")]
        if len(parts) == 1:
            return parts[0]
        together = Pool.of(
            {
                name: part.images[first:end]
                for part in parts
                for name, (first, end) in zip(
                    part.names, pairwise(part.offsets.tolist()), strict=True
                )
            }
        )
        groups = tuple(group for part in parts for group in part.groups)
        return replace(together, one_turn=parts[0].one_turn, groups=groups)

    def with_groups(self, group: Callable[[str], str]) -> "Dataset":
        """Return the data set with the group of each class by its name; digests do not depend on it."""
        splits = {
            split: replace(pool, groups=tuple(map(group, pool.names)))
            for split, pool in self.splits.items()
        }
        return replace(self, splits=splits)

    def rotated(self, only: str | None = None, one_turn: bool = False) -> "Dataset":
        """The data set with four times the classes, in all splits or ``only`` in some: `Pool.rotated`.

        ``only`` is such as ``train`` or ``train+val``; ``one_turn`` is that of `Pool`.
        """
        # from the digest of what is turned, which says as much as hashing four times the pixels
        recipe = f"{self.digest} rotated" + (f" {only}" if only else "")
        recipe += ", one turn an episode" if one_turn else ""
        turned = only.split("+") if only else self.splits
        splits = {
            split: replace(pool.rotated(), one_turn=one_turn) if split in turned else pool
            for split, pool in self.splits.items()
        }
        return Dataset(self.name, hashlib.sha256(recipe.encode()).hexdigest(), splits)


def content_digest(splits: Mapping[str, Pool]) -> str:
    """SHA-256 (hexadecimal) of splits, class names, class sizes, image shapes and pixels, in order.

    It depends on what is drawn from only, not on archives, files or versions.
    """
    digest = hashlib.sha256()
    for split, pool in splits.items():
        # repr quotes the names, so no two lists of names read the same
        facts = (split, pool.names, pool.offsets.tolist(), tuple(pool.images.shape))
        digest.update(repr(facts).encode())
        digest.update(pool.images.contiguous().numpy().data)
    return digest.hexdigest()
