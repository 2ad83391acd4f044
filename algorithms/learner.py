"""The contract of a learner: what every few-shot method looks like to the outside."""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.stateless import with_tensors
from algorithms.statistics import Statistics
from algorithms.threads import side_by_side, threads_for

Gradients = tuple[Tensor | None, ...]
Buffers = list[Tensor]


class Episodes(NamedTuple):
    """A meta-batch of T tasks: N ways, K support images per class, M queries in all.

    The support set shows its ways and shots in its shape, ``support_y[:, n]`` is ``n`` throughout.
    The queries are a plain list of images to be classified.
    """

    support_x: Tensor  # [T, N, K, C, H, W]
    support_y: Tensor  # [T, N, K], int64
    query_x: Tensor  # [T, M, C, H, W]
    query_y: Tensor  # [T, M], int64 in [0, N)
    classes: Tensor  # [T, N], int64: which classes of the data set these are; for training alone


class Shape(NamedTuple):
    """The sizes of an episode: N ways, K shots (support) and Q queries, both per class."""

    ways: int
    shots: int
    queries: int


class Learner(nn.Module):
    """A few-shot method that works on a whole meta-batch of T tasks at once.

    ``forward`` is what is evaluated: adapt to the support set, classify the queries.
    ``adapt`` and ``predict`` are its two halves, so that each can be timed alone.
    ``meta_gradient`` is what is trained. A learner owns no files, clocks, devices or seeds.
    """

    order: int = 1
    """1, or 2 where the outer gradient differentiates through an inner gradient."""

    statistics: Statistics = "running"
    """Whose images normalise a query."""

    statistics_choices: ClassVar[tuple[Statistics, ...]] = ()
    """What `statistics` of a trained learner may be set to, to evaluate it otherwise."""

    test_inner_steps: int = 0
    """Steps of the inner loop in evaluation, where there is one."""

    any_ways: ClassVar[bool] = True
    """Whether the training may have other ways than the test; not so for a head made for N ways."""

    learns_from_queries: ClassVar[bool] = True
    """Whether the outer loss is on the queries of training episodes; if not, they have none."""

    learns_classes: ClassVar[bool] = False
    """Whether it learns to tell all training classes apart: it is then made for so many ``ways``."""

    recordable: ClassVar[bool] = True
    """Whether `meta_gradient` issues the same operators on the same memory each time and never waits
    for the device, so that a GPU can record and replay it. What changes is in tensors."""

    divisible: ClassVar[bool] = True
    """Whether the tasks of a meta-batch can be shared out to several processes, whose outer gradients
    and running statistics are then averaged."""

    test_options: ClassVar[tuple[str, ...]] = ()
    """Options that evaluation alone depends on: the same training serves all their values."""

    unsolved: Tensor | None = None
    """Which of the tasks [T] last adapted to in evaluation were not solved; None: it does not check."""

    label_smoothing: float = 0.0
    """Share of a training label that is spread evenly over all classes; the runner sets it."""

    tasks_at_once: int | None = None
    """Most tasks that fit the memory (or cache) together; None: the whole meta-batch.

    The runner sets it, and tasks are then trained in chunks of that many: in training, too, the tasks of
    a meta-batch do not touch each other. The outer gradient is the same for every value, up to rounding.
    """

    @property
    def trainable(self) -> bool:
        """Whether there are parameters to train; without any, all that is done is to evaluate it."""
        return any(parameter.requires_grad for parameter in self.parameters())

    @property
    def smooths_labels(self) -> bool:
        """Whether the outer loss is the one of this class, which smooths labels."""
        return type(self).meta_gradient is Learner.meta_gradient

    @property
    def transductive(self) -> bool:
        """Whether the prediction for one query depends on the other queries."""
        return self.statistics == "queries"

    def adapt(self, support_x: Tensor, support_y: Tensor) -> Any:
        """Learn from support sets [T, N, K, ...] with labels [T, N, K]; for `predict`."""
        raise NotImplementedError

    def predict(self, adapted: Any, query_x: Tensor) -> Tensor:
        """Classify queries [T, M, ...] with what `adapt` returned; gives logits [T, M, N]."""
        raise NotImplementedError

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """Adapt to the support sets and classify the queries; gives logits [T, M, N]."""
        return self.predict(self.adapt(support_x, support_y), query_x)

    def outer(self, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """Logits [T, M, N] and labels [T, M], whose cross-entropy is the outer loss."""
        return self(episodes.support_x, episodes.support_y, episodes.query_x), episodes.query_y

    def meta_gradient(self, episodes: Episodes) -> dict[str, Tensor]:
        """Add the outer gradient, a mean over the T tasks, to ``.grad`` of the meta-parameters.

        Returns the detached scalars ``loss`` and ``accuracy`` of the meta-batch (0 to 1), on the
        learner's device: reading them is left to the caller, who knows when to wait for a GPU.
        """
        parameters = [p for p in self.parameters() if p.requires_grad]
        tasks = len(episodes.support_x)

        def gradient(chunk: Episodes) -> tuple[Tensor, Tensor, Gradients, Buffers]:
            learner = with_tensors(self, {n: b.clone() for n, b in self.named_buffers()})
            logits, labels = learner.outer(chunk)
            share = len(logits) / tasks
            loss = share * F.cross_entropy(
                logits.flatten(0, 1),
                labels.flatten(),
                label_smoothing=self.label_smoothing,
            )
            gradients: Gradients = ()
            if parameters:
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            buffers = [b * share if b.is_floating_point() else b for b in learner.buffers()]
            return loss.detach(), accuracy(logits, labels), gradients, buffers

        # Added up in the order of the tasks, however the chunks were run: the same bits each time.
        losses, accuracies, all_gradients, all_buffers = zip(
            *side_by_side(gradient, list(self.chunks(episodes)), episodes.support_x.device),
            strict=True,
        )
        for gradients in all_gradients:
            for parameter, summand in zip(parameters, gradients, strict=True):
                if summand is not None:
                    add_gradient(parameter, summand)
        for buffer, each in zip(self.buffers(), zip(*all_buffers, strict=True), strict=True):
            # Running statistics: their mean over the tasks. Counters went the same way in all chunks.
            buffer.copy_(sum(each) if buffer.is_floating_point() else each[0])
        return {"loss": torch.stack(losses).sum(), "accuracy": torch.cat(accuracies).mean()}

    def chunks(self, episodes: Episodes) -> Iterator[Episodes]:
        """The meta-batch in parts of at most `tasks_at_once` tasks, or whole without that limit.

        On a CPU all threads have as many parts, and all parts are as large, as far as that can be.
        """
        tasks = size = len(episodes.support_x)
        if self.tasks_at_once:
            threads = threads_for(episodes.support_x.device)
            rounds = -(-tasks // (threads * self.tasks_at_once))
            size = -(-tasks // (threads * rounds))
        for first in range(0, tasks, size):
            yield Episodes(*(part[first : first + size] for part in episodes))

    def supports(self, train: Shape, test: Shape) -> tuple[bool, str]:
        """Whether the method can train on one shape and be tested on the other, and if not, why."""
        if not self.trainable:
            return True, ""
        if not self.any_ways and train.ways != test.ways:
            return False, f"its head is made for {test.ways} ways; train.ways must be {test.ways}"
        if self.learns_from_queries and train.queries == 0:
            return False, "its outer loss is on the queries; train.queries must be at least 1"
        if not self.learns_from_queries and train.queries:
            return False, "it learns from the support set alone; train.queries must be 0"
        return True, ""


def add_gradient(parameter: Tensor, summand: Tensor) -> None:
    """Add to ``.grad``, which lies in memory as the parameter does: fused optimizers rely on that."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad.add_(summand)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of right answers per task, 0 to 1: [T] from logits [T, M, N] and labels [T, M]."""
    return (logits.detach().argmax(-1) == labels).float().mean(-1)
