"""Doubles that note what a run draws, trains on, is tested with and stores, seen from outside.

Images of a marked data set say which split, class and image they are, so that it does not matter by what
names the runner calls things: what a learner was given is read off the images themselves.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.learner import Learner, TaskBatch
from bench.runs.store import Store
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Dataset, Pool

SPLITS = ("train", "val", "test")
Marks = tuple[int, ...]


def marked(
    channels: int = 1,
    classes: tuple[int, int, int] = (6, 5, 5),
    images: tuple[int, ...] = (8,),
    turned: tuple[str, ...] = (),
) -> Dataset:
    """A data set of 3x3 pixels whose first three are split, class and number of the image.

    Classes have ``images`` in turns, and some splits each class ``turned``; other pixels are random.
    """
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for number, (split, count) in enumerate(zip(SPLITS, classes, strict=True)):
        sizes = [images[each % len(images)] for each in range(count)]
        shapes = [(size, channels, 3, 3) for size in sizes]
        made = [torch.randint(256, s, dtype=torch.uint8, generator=generator) for s in shapes]
        pool = Pool.of({f"{split}{each}": one for each, one in enumerate(made)})
        pool = pool.rotated() if split in turned else pool
        row = torch.arange(len(pool.inputs))
        own = torch.searchsorted(pool.offsets, row, right=True) - 1
        pool.inputs[:, :, 0, 0] = number
        pool.inputs[:, :, 0, 1] = own[:, None].byte()
        pool.inputs[:, :, 0, 2] = (row - pool.offsets[own])[:, None].byte()
        splits[split] = pool
    return Dataset.of("marked", splits)


def marks(images: Tensor) -> Tensor:
    """Split, class and number [..., 3] of images, as bytes or as floats in [0, 1]."""
    scale = 255 if images.is_floating_point() else 1
    return (images[..., 0, 0, :] * scale).round().long()


class Seen(NamedTuple):
    """What a learner was given at once, and how it was then."""

    kind: str  # "train" for an outer gradient, "predict" for a prediction outside of one
    original: bool  # not a copy of the learner, such as those that are timed
    splits: set[str]
    shape: tuple[int, ...]  # ways, shots and queries in all
    numbers: list[int | None]  # of the episodes, None where no sampler drew such a one
    episodes: list[Marks]
    training: bool  # the mode
    weights: str  # a digest of parameters and buffers


class Recording:
    """What happened, in its order, while `recording` was entered."""

    def __init__(self) -> None:
        self.all: list[Seen] = []
        self.numbers: dict[Marks, int] = {}
        self.originals: list[Learner] = []
        self.written: list[tuple[int, str, dict[str, Any]]] = []
        """Of each writing: how much was seen before, the cell, and the files."""

    def of(self, kind: str, *splits: str) -> list[Seen]:
        """What the learner itself, no copy, was given from these splits, or from any."""
        wanted = [seen for seen in self.all if seen.original and seen.kind == kind]
        return [seen for seen in wanted if not splits or seen.splits & set(splits)]

    def see(self, learner: nn.Module, kind: str, support: Tensor, query: Tensor) -> None:
        """Note what a learner is given."""
        rows = marks(support.flatten(1, 2)), marks(query)
        episodes = [content(each, other) for each, other in zip(*rows, strict=True)]
        state = learner.state_dict()
        self.all.append(
            Seen(
                kind,
                any(learner is each for each in self.originals),
                {SPLITS[split] for part in rows for split in part[..., 0].unique().tolist()},
                (*support.shape[1:3], query.shape[1]),
                [self.numbers.get(each) for each in episodes],
                episodes,
                learner.training,
                digest(state),
            )
        )


def content(support: Tensor, query: Tensor) -> Marks:
    """An episode by its images: those of its support in order, those of its queries in any order."""
    queries = [mark for image in sorted(query.tolist()) for mark in image]
    return (*support.flatten().tolist(), *queries)


def digest(state: dict[str, Tensor]) -> str:
    """Parameters and buffers in short."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode() + state[name].detach().contiguous().numpy().tobytes())
    return found.hexdigest()


@contextmanager
def recording(method: Any) -> Iterator[Recording]:
    """Note what learners of a class, and of no other, are given within."""
    noted, depth = Recording(), 0

    def made(self: Learner) -> None:
        nn.Module.__init__(self)
        noted.originals.append(self)

    def noting(plain: Any) -> Any:
        def meta_gradient(self: Learner, episodes: TaskBatch) -> dict[str, Tensor]:
            nonlocal depth
            if depth == 0:
                noted.see(self, "train", episodes.support_x, episodes.query_x)
            depth += 1
            try:
                return plain(self, episodes)
            finally:
                depth -= 1

        return meta_gradient

    def predicting(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if depth == 0 and isinstance(module, Learner):
            noted.see(module, "predict", given[0], given[2])

    draw, write = EpisodeSampler.draw, Store.write

    def drawing(self: EpisodeSampler, first: int, count: int) -> TaskBatch:
        drawn = draw(self, first, count)
        support, query = marks(drawn.support_x.flatten(1, 2)), marks(drawn.query_x)
        for number in range(count):
            noted.numbers[content(support[number], query[number])] = first + number
        return drawn

    def writing(self: Store, cell: str, files: dict[str, Any]) -> Any:
        noted.written.append((len(noted.all), cell, files))
        return write(self, cell, files)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Learner, "__init__", made)
        for each in method.__mro__:
            if "meta_gradient" in vars(each):
                patched.setattr(each, "meta_gradient", noting(vars(each)["meta_gradient"]))
        patched.setattr(EpisodeSampler, "draw", drawing)
        patched.setattr(Store, "write", writing)
        hook = nn.modules.module.register_module_forward_pre_hook(predicting)
        try:
            yield noted
        finally:
            hook.remove()


class Scripted(Learner):
    """Reads the classes off the marks of images, and is right as often as its script says.

    After n steps of SGD with a step size of 1 its only parameter is n. It then classifies the images
    whose number is below digit n of ``script`` rightly, and the others wrongly. The loss of step n is
    n + 1 and the training accuracy n.
    """

    def __init__(self, backbone: Backbone, ways: int, *, script: str, numberless: str = "") -> None:
        super().__init__()
        self.script, self.numberless = [int(digit) for digit in script], numberless
        self.done = nn.Parameter(torch.zeros(()))

    def meta_gradient(self, episodes: TaskBatch) -> dict[str, Tensor]:
        """Count a step."""
        step = self.done.detach().clone()
        self.done.grad = -torch.ones(())
        return {"loss": step + 1, "score": step}

    def adapt(self, support_x: Tensor, support_y: Tensor) -> Tensor:
        """The numbers of the classes."""
        return marks(support_x[:, :, 0])[..., 1]

    def predict(self, adapted: Tensor, query_x: Tensor) -> Tensor:
        """Surely right or surely wrong; no numbers for the split named ``numberless``."""
        split, own, number = marks(query_x).unbind(-1)
        right = own[..., None] == adapted[:, None]
        known = number < self.script[min(int(self.done), len(self.script) - 1)]
        logits = torch.where(known[..., None], right, right.roll(1, -1)).float()
        if self.numberless and int(split[0, 0]) == SPLITS.index(self.numberless):
            logits = logits * torch.nan
        return logits
