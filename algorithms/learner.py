"""The interface of a learner, which every few-shot method implements."""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from algorithms.losses import CrossEntropy, Loss
from algorithms.nn.functional import with_tensors
from algorithms.nn.norm_statistics import Statistics
from algorithms.nn.threads import map_chunks, threads_for

Gradients = tuple[Tensor | None, ...]
Buffers = list[Tensor]


class TaskBatch(NamedTuple):
    """A meta-batch of T tasks: N ways, K support examples per class, M queries in total.

    In tasks with classes, the support set is grouped by class: ``support_y[:, n]`` is ``n``
    throughout. Tasks without classes are one group (N = 1) of K examples, whose targets have D
    dimensions. The queries are a flat list. Inputs have any shape and dtype.
    """

    support_x: Tensor  # [T, N, K, ...]
    support_y: Tensor  # [T, N, K], int64; or [T, 1, K, D], float
    query_x: Tensor  # [T, M, ...]
    query_y: Tensor  # [T, M], int64 in [0, N); or [T, M, D], float
    classes: Tensor  # [T, N], int64: index of each class (or task) in the data; only for training


class Setting(NamedTuple):
    """The size of a task: N ways, K shots (support) and Q queries, both per class.

    Without classes, ``ways`` is None, and K and Q are those of the task.
    """

    ways: int | None
    shots: int
    queries: int

    @property
    def groups(self) -> int:
        """The number of classes, or 1 without classes."""
        return self.ways or 1

    @property
    def examples(self) -> int:
        """The number of examples of a task, support and query."""
        return self.groups * (self.shots + self.queries)

    @property
    def label(self) -> str:
        """The setting as text: 5-way 1-shot, or 10-shot without classes."""
        return f"{self.ways}-way {self.shots}-shot" if self.ways else f"{self.shots}-shot"


class Learner(nn.Module):
    """A few-shot method that works on a whole meta-batch of T tasks at once.

    ``forward`` is what is evaluated: adapt to the support set, predict the queries. ``adapt`` and
    ``predict`` are its two halves, which can be timed separately. ``meta_gradient`` is what is
    trained. A learner owns no files, clocks, devices or seeds.
    """

    order: int = 1
    """1, or 2 if the outer gradient differentiates through an inner gradient."""

    norm_statistics: Statistics = "running"
    """Which examples batch norm takes the statistics of a query from."""

    norm_statistics_choices: ClassVar[tuple[Statistics, ...]] = ()
    """Values that `norm_statistics` of a trained learner may be set to for evaluation."""

    test_inner_steps: int = 0
    """Inner-loop steps in evaluation; 0 without an inner loop."""

    requires_classes: bool = False
    """Whether it needs tasks with classes; otherwise it also learns regression."""

    requires_targets: ClassVar[bool] = False
    """Whether it needs examples with targets of their own, such as those of a regression."""

    learns_by_acting: ClassVar[bool] = False
    """Whether it makes its examples itself, by trajectories in the environment of its loss."""

    accepts_any_ways: ClassVar[bool] = True
    """Whether training and test may have different ways; False for a head built for N ways."""

    uses_query_loss: ClassVar[bool] = True
    """Whether the outer loss is on the queries of training episodes; otherwise they have none."""

    requires_plain_sgd: ClassVar[bool] = False
    """Whether ``.grad`` is the method's own outer step, which plain SGD takes and no other rule."""

    trains_classifier: ClassVar[bool] = False
    """Whether it learns to classify all training classes; ``ways`` is then their number."""

    trains_backbone: ClassVar[bool] = True
    """Whether training changes the backbone; False for heads without parameters."""

    supports_cuda_graph: ClassVar[bool] = True
    """Whether `meta_gradient` can be captured in a CUDA graph.

    That needs static shapes and memory, and no host sync; values that change are held in tensors.
    """

    supports_data_parallel: ClassVar[bool] = True
    """Whether the tasks of a meta-batch can be split across processes.

    Their outer gradients and running statistics are then averaged.
    """

    test_options: ClassVar[tuple[str, ...]] = ()
    """Options that affect evaluation only: one training serves all their values."""

    unsolved: Tensor | None = None
    """Which tasks [T] of the last adaptation in evaluation were not solved; None: not checked."""

    loss: Loss = CrossEntropy()
    """The loss of the inner and the outer loop; set by the runner, from the domain of the data."""

    chunk_size: int | None = None
    """Largest number of tasks that fit memory (or cache) together; None: the whole meta-batch.

    Set by the runner. The tasks of a meta-batch are then trained in chunks of this size: they are
    independent of each other, in training too. The outer gradient does not depend on it, up to
    rounding.
    """

    @property
    def trainable(self) -> bool:
        """Whether there are parameters to train; without any, the learner is only evaluated."""
        return any(parameter.requires_grad for parameter in self.parameters())

    @property
    def smooths_labels(self) -> bool:
        """Whether the outer loss is ``loss.mean``, which applies label smoothing."""
        return type(self).meta_gradient is Learner.meta_gradient

    @property
    def transductive(self) -> bool:
        """Whether the prediction for one query depends on the other queries."""
        return self.norm_statistics == "all_queries" and self.has_batch_norm

    @property
    def has_batch_norm(self) -> bool:
        """Whether `norm_statistics` are of anything."""
        return any(isinstance(module, nn.BatchNorm2d) for module in self.modules())

    def adapt(self, support_x: Tensor, support_y: Tensor) -> Any:
        """Return the state for `predict`, learned from support sets [T, N, K, ...].

        ``support_y`` are their targets, see `TaskBatch`.
        """
        raise NotImplementedError

    def predict(self, adapted: Any, query_x: Tensor) -> Tensor:
        """Return outputs of queries [T, M, ...], given what `adapt` returned.

        They are logits [T, M, N], or predicted targets [T, M, D].
        """
        raise NotImplementedError

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """Adapt to the support sets and return outputs of the queries."""
        return self.predict(self.adapt(support_x, support_y), query_x)

    def outer(self, episodes: TaskBatch) -> tuple[Tensor, Tensor]:
        """Return outputs and targets of which `loss` makes the outer loss."""
        return self(episodes.support_x, episodes.support_y, episodes.query_x), episodes.query_y

    def meta_gradient(self, episodes: TaskBatch) -> dict[str, Tensor]:
        """Add the outer gradient, a mean over the T tasks, to ``.grad`` of the meta-parameters.

        Returns:
            The detached scalars ``loss`` and ``score`` (of `loss`) of the meta-batch. They stay on
            the learner's device, so that the caller decides when to synchronise with a GPU.
        """
        parameters = [p for p in self.parameters() if p.requires_grad]
        tasks = len(episodes.support_x)

        def gradient(chunk: TaskBatch) -> tuple[Tensor, Tensor, Gradients, Buffers]:
            learner = with_tensors(self, {n: b.clone() for n, b in self.named_buffers()})
            outputs, targets = learner.outer(chunk)
            share = len(outputs) / tasks
            loss = share * self.loss.mean(outputs, targets)
            gradients: Gradients = ()
            if parameters:
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            buffers = [b * share if b.is_floating_point() else b for b in learner.buffers()]
            return loss.detach(), self.loss.score(outputs, targets), gradients, buffers

        # Summed in the order of the tasks, however the chunks were run, to be deterministic.
        losses, scores, all_gradients, all_buffers = zip(
            *map_chunks(gradient, list(self.chunks(episodes)), episodes.support_x.device),
            strict=True,
        )
        for gradients in all_gradients:
            for parameter, summand in zip(parameters, gradients, strict=True):
                if summand is not None:
                    add_gradient(parameter, summand)
        for buffer, each in zip(self.buffers(), zip(*all_buffers, strict=True), strict=True):
            # Running statistics are averaged over the tasks. Integer buffers
            # (num_batches_tracked) are identical in all chunks.
            buffer.copy_(sum(each) if buffer.is_floating_point() else each[0])
        return {"loss": torch.stack(losses).sum(), "score": torch.cat(scores).mean()}

    def chunks(self, episodes: TaskBatch) -> Iterator[TaskBatch]:
        """Yield the meta-batch in parts of at most `chunk_size` tasks, or whole without that limit.

        On a CPU all threads get the same number of parts, of equal size as far as possible.
        """
        tasks = size = len(episodes.support_x)
        if self.chunk_size:
            threads = threads_for(episodes.support_x.device)
            rounds = -(-tasks // (threads * self.chunk_size))
            size = -(-tasks // (threads * rounds))
        for first in range(0, tasks, size):
            yield TaskBatch(*(part[first : first + size] for part in episodes))

    def supports(self, train: Setting, test: Setting) -> tuple[bool, str]:
        """Return whether the method can train in one setting and be tested in the other.

        If not, the second value says why.
        """
        if not self.trainable:
            return True, ""
        if not self.accepts_any_ways and train.ways != test.ways:
            return False, f"its head is made for {test.ways} ways; train.ways must be {test.ways}"
        if self.uses_query_loss and train.queries == 0:
            return False, "its outer loss is on the queries; train.queries must be at least 1"
        if not self.uses_query_loss and train.queries:
            return False, "it learns from the support set alone; train.queries must be 0"
        return True, ""


def add_gradient(parameter: Tensor, summand: Tensor) -> None:
    """Add to ``.grad``, keeping the memory layout of the parameter.

    Fused optimizers rely on that layout.
    """
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad.add_(summand)
