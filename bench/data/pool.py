"""Images of one split, ready to be drawn from."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Pool:
    """The images of one split, grouped by class.

    ``images`` is uint8 [M, C, H, W]; class ``c`` owns the rows ``offsets[c]`` to ``offsets[c + 1]``
    (``offsets`` is int64 [classes + 1]); ``names`` holds one name a class.
    """

    images: Tensor
    offsets: Tensor
    names: tuple[str, ...]

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
        first: dict[str, int] = {}
        drawings = [re.sub("@(90|180|270)$", "", name) for name in self.names]
        numbers = [first.setdefault(drawing, n) for n, drawing in enumerate(drawings)]
        return self.offsets.new_tensor(numbers)

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
        return Pool.of(
            {
                name: part.images[first:end]
                for part in parts
                for name, (first, end) in zip(
                    part.names, pairwise(part.offsets.tolist()), strict=True
                )
            }
        )

    def rotated(self, only: str | None = None) -> "Dataset":
        """The data set with four times the classes, ``only`` in one split or in all: `Pool.rotated`."""
        # from the digest of what is turned, which says as much as hashing four times the pixels
        recipe = f"{self.digest} rotated" + (f" {only}" if only else "")
        splits = {
            split: pool.rotated() if only in (None, split) else pool
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
