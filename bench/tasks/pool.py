"""Examples of one split, ready for sampling."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from algorithms.backbones.encoder import Encoder
from bench.tasks.base import Domain
from bench.tasks.classification.domain import Classification

IMAGE_DIMENSIONS = 3
"""Of an image, [C, H, W]. Other uint8 inputs, such as bytes of text, are not scaled."""
TEXT_DIMENSIONS = 1

Compared = Literal["examples", "tasks"]
"""What no two splits share: single examples, or whole tasks where single ones are of a grid."""
Resampling = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""A filter of Pillow that an image is scaled by."""


@dataclass(frozen=True)
class Pool:
    """The examples of one split, grouped by class; without classes, each task is a class.

    ``inputs`` is [M, ...], such as uint8 images [M, C, H, W]; class ``c`` owns the rows
    ``offsets[c]`` to ``offsets[c + 1]`` (``offsets`` is int64 [classes + 1]); ``names`` holds one
    name per class. ``targets`` is float [M, ...] where examples have targets of their own, and
    ``hidden`` is float [classes, P] where tasks have parameters that no learner sees. With
    ``one_turn``, an episode has at most one of the rotated classes of a drawing (see `rotated`),
    chosen at random. ``groups`` holds the name of each class's group, of classes that are similar
    for a reason, such as a letter and its accented forms; it is empty if each class (or drawing) is
    a group of its own. With ``within_group``, all classes of an episode are of one group.
    """

    inputs: Tensor
    offsets: Tensor
    names: tuple[str, ...]
    one_turn: bool = False
    groups: tuple[str, ...] = ()
    targets: Tensor | None = None
    within_group: bool = False
    hidden: Tensor | None = None

    @classmethod
    def of(cls, classes: Mapping[str, Tensor]) -> "Pool":
        """Return a pool of these classes, in order; each is uint8 [n, C, H, W] with its own n."""
        sizes = torch.tensor([0] + [len(images) for images in classes.values()])
        return cls(torch.cat(list(classes.values())), sizes.cumsum(0), tuple(classes))

    @property
    def sizes(self) -> Tensor:
        """Examples per class, int64 [classes]."""
        return self.offsets.diff()

    @property
    def base_class(self) -> Tensor:
        """For each class, the index of the first one with the same drawings, int64 [classes].

        This is the class itself, except for the rotated classes of `rotated`.
        """
        return self._first(re.sub("@(90|180|270)$", "", name) for name in self.names)

    @property
    def grouped(self) -> Tensor:
        """For each class, the index of the first one of its group, int64 [classes]."""
        return self._first(self.groups) if self.groups else self.base_class

    def _first(self, texts: Iterable[str]) -> Tensor:
        """Return for each class the index of the first one with the same text, int64 [classes]."""
        first: dict[str, int] = {}
        return self.offsets.new_tensor([first.setdefault(text, n) for n, text in enumerate(texts)])

    @property
    def choices(self) -> Tensor:
        """Classes of which an episode has at most one, as rows: int64 [choices, 1 or 4]."""
        if not self.one_turn:
            return torch.arange(len(self.names), device=self.offsets.device)[:, None]
        return self.base_class.argsort(stable=True).view(-1, 4)

    @property
    def has_texts(self) -> bool:
        """Whether the examples are texts, UTF-8 in uint8 [L], see `bench.tasks.texts`."""
        return self.inputs.ndim == 1 + TEXT_DIMENSIONS and self.inputs.dtype == torch.uint8

    def to(self, device: torch.device | str) -> "Pool":
        """Return the same pool with its tensors on another device."""
        targets, hidden = (
            each if each is None else each.to(device) for each in (self.targets, self.hidden)
        )
        inputs, offsets = self.inputs.to(device), self.offsets.to(device)
        return replace(self, inputs=inputs, offsets=offsets, targets=targets, hidden=hidden)

    def rotated(self) -> "Pool":
        """Return a pool with 4 times the classes: unchanged, rotated by 90, 180 and 270 degrees.

        Images must be square. A rotated class is a class of its own (Santoro et al. 2016).
        """
        # np.rot90 returns views without a copy, which makes this twice as fast as torch.rot90
        turned = [np.rot90(self.inputs.numpy(), quarter, (-2, -1)) for quarter in range(4)]
        starts = [self.offsets[:-1] + quarter * len(self.inputs) for quarter in range(4)]
        return Pool(
            torch.from_numpy(np.concatenate(turned)),
            torch.cat([*starts, torch.tensor([4 * len(self.inputs)])]),
            self.names + tuple(f"{name}@{turn}" for turn in (90, 180, 270) for name in self.names),
            groups=4 * self.groups,
        )


class Encoding(Protocol):
    """Features of a data set's examples, by a frozen encoder: what learners see instead."""

    @property
    def encoder(self) -> Encoder:
        """The encoder, whose features are as many as ``num_features`` says."""

    def features(self, split: str) -> Tensor:
        """Return the features [M, F] of all examples of a split, computed once."""


Original = Callable[[str, int], Image.Image]
"""A function that returns an image of a split, given its index, before it was made smaller."""


@dataclass(frozen=True)
class Dataset:
    """A prepared data set: class-disjoint ``train``, ``val``, ``test`` pools and a content digest.

    ``digest`` is the SHA-256 (hexadecimal) of all examples, class names and splits, or is derived
    from it if the data set is derived by a rule. ``expected_duplicates`` is the number of distinct
    examples that the official data has in more than one split, None if unknown, see
    `bench.tasks.leaks.check`. ``domain`` is the kind of its tasks, and ``examples`` what its examples
    are called in tables and figures.

    Learners see the examples, or their features if there is an ``encoding``; digest and episodes are
    the same. ``original`` returns an image of a split as it was before it was made the size of the
    others, given its index; by default, the image is all there is. ``resampling`` is the filter that
    made it that size, and ``inverted`` says that ink is 255 and paper 0, unlike in a photograph.
    """

    name: str
    digest: str
    splits: dict[str, Pool]
    expected_duplicates: int | None = 0
    domain: Domain = field(default_factory=Classification)
    examples: str = "images"
    compared: Compared = "examples"
    encoding: Encoding | None = None
    original: Original | None = None
    original_digest: str = ""
    """What tells the original images apart where ``digest``, of the small ones, does not."""
    left_out: str = ""
    """What of the user's own files is not among the examples, and why; for records."""
    resampling: Resampling = "lanczos"
    inverted: bool = False

    @property
    def has_images(self) -> bool:
        """Whether the examples are images, uint8 [C, H, W]."""
        inputs = self.splits["train"].inputs
        return inputs.ndim == 1 + IMAGE_DIMENSIONS and inputs.dtype == torch.uint8

    @property
    def has_texts(self) -> bool:
        """Whether the examples are texts."""
        return self.splits["train"].has_texts

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of what learners see of an example."""
        if self.encoding:
            return (self.encoding.encoder.num_features,)
        return self.domain.input_shape(tuple(self.splits["train"].inputs.shape[1:]))

    @classmethod
    def of(cls, name: str, splits: dict[str, Pool], **facts: Any) -> "Dataset":
        """Return a data set of these splits and other fields, and compute its digest."""
        return cls(name, content_digest(splits), splits, **facts)

    def features(self, split: str) -> Tensor:
        """Return the features of a split, or of several (see `pool`), by the encoding."""
        assert self.encoding is not None
        return torch.cat([self.encoding.features(name) for name in split.split("+")])

    def pool(self, split: str) -> Pool:
        """Return the pool of a split, or of several: ``train+val`` has the classes of both."""
        parts = [self.splits[name] for name in split.split("+")]
        if len(parts) == 1:
            return parts[0]
        targets = [part.targets for part in parts if part.targets is not None]
        hidden = [part.hidden for part in parts if part.hidden is not None]
        sizes = torch.cat([torch.zeros(1, dtype=torch.int64), *(part.sizes for part in parts)])
        return replace(
            parts[0],
            inputs=torch.cat([part.inputs for part in parts]),
            offsets=sizes.cumsum(0),
            names=sum((part.names for part in parts), ()),
            groups=sum((part.groups for part in parts), ()),
            targets=torch.cat(targets) if targets else None,
            hidden=torch.cat(hidden) if hidden else None,
        )

    def with_groups(self, group: Callable[[str], str]) -> "Dataset":
        """Return the data set with groups, given by class names; digests do not depend on them."""
        splits = {
            split: replace(pool, groups=tuple(map(group, pool.names)))
            for split, pool in self.splits.items()
        }
        return replace(self, splits=splits)

    def within_groups(self) -> "Dataset":
        """Return the data set with episodes whose classes are all of one group: a harder problem."""
        splits = {split: replace(pool, within_group=True) for split, pool in self.splits.items()}
        digest = hashlib.sha256(f"{self.digest} within groups".encode()).hexdigest()
        return replace(self, name=f"{self.name}-within", digest=digest, splits=splits)

    def rotated(self, only: str | None = None, one_turn: bool = False) -> "Dataset":
        """Return the data set with four times the classes, see `Pool.rotated`.

        ``only`` limits this to some splits, such as ``train`` or ``train+val``; ``one_turn`` is
        that of `Pool`.
        """
        # derived from the original digest, which is equivalent to hashing four times the pixels
        recipe = f"{self.digest} rotated" + (f" {only}" if only else "")
        recipe += ", one turn an episode" if one_turn else ""
        turned = only.split("+") if only else self.splits
        original = self.original and _turning(self.original, self.splits, turned)
        splits = {
            split: replace(pool.rotated(), one_turn=one_turn) if split in turned else pool
            for split, pool in self.splits.items()
        }
        digest = hashlib.sha256(recipe.encode()).hexdigest()
        return replace(self, digest=digest, splits=splits, original=original)


def _turning(original: Original, splits: Mapping[str, Pool], turned: Collection[str]) -> Original:
    """Return what reads the original images of the `rotated` data set."""

    def image(split: str, index: int) -> Image.Image:
        if split not in turned:
            return original(split, index)
        quarter, base = divmod(index, len(splits[split].inputs))
        return original(split, base).rotate(90 * quarter, expand=True)

    return image


def content_digest(splits: Mapping[str, Pool]) -> str:
    """Return the SHA-256 (hexadecimal) of splits, class names, sizes, shapes and values of examples.

    The order matters. It depends only on what is sampled from, not on archives, files or versions.
    """
    digest = hashlib.sha256()
    for split, pool in splits.items():
        # repr quotes the names, so that different lists of names have different texts
        facts = (split, pool.names, pool.offsets.tolist(), tuple(pool.inputs.shape))
        digest.update(repr(facts).encode())
        for values in (pool.inputs, pool.targets, pool.hidden):
            if values is not None:
                digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()
