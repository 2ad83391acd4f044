"""The outer loop, one for all learners, and training that can be interrupted and resumed."""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from algorithms.learner import Learner, Setting, TaskBatch
from algorithms.nn.dropout import advance_step
from bench.config.schema import Train
from bench.core.errors import PeerLostError, RunFailedError
from bench.engine import optimizer
from bench.engine.cuda_graph import Step, record
from bench.engine.distributed import SINGLE_PROCESS, ProcessGroup
from bench.engine.evaluate import to_float
from bench.engine.memory import out_of_memory, release
from bench.stats.intervals import mean_ci95
from bench.tasks.base import TaskSource
from bench.tasks.classification.augmentation import Augmentation

if TYPE_CHECKING:
    from bench.engine.training_cache import TrainingCache

_log = logging.getLogger(__name__)

UNRECORDED_STEPS = 3
"""Eager steps before a CUDA graph is captured: they initialise libraries and the optimizer's state."""


MAX_SECONDS_BETWEEN_PAUSES = 10.0
"""Longest time between two pauses of training; a checkpoint can be saved in each."""


class DivergedError(RunFailedError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True)
class ValidationPoint:
    """Progress and metrics at one validation. Scores are those of the domain's metric."""

    episodes: int
    seconds: float  # of training only, validation excluded
    train_loss: float  # mean since the last validation
    train_score: float
    val_score: float
    val_ci95: float

    asdict = asdict


class OuterLoop:
    """Outer-loop optimisation of a learner's meta-parameters on numbered training episodes.

    ``steps`` is the number of outer steps that the budget of training examples allows, rounded up;
    zero without a budget. One step draws the next ``meta_batch`` episodes, computes the learner's
    outer gradient and applies the optimizer, whose lr follows the schedule (see
    `bench.engine.optimizer`). On CUDA the step is soon replayed as a CUDA graph, with identical
    results.

    Each process of the group handles a share of the meta-batch. Outer gradients, running statistics
    and metrics, all of them means over tasks, are combined by one all-reduce, after which all
    processes take the same step: results equal those of one process, up to rounding.
    """

    def __init__(
        self,
        learner: Learner,
        source: TaskSource,
        train: Train,
        world: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.learner, self.source, self.train, self.world = learner, source, train, world
        self.mine = world.share(train.meta_batch)
        self.steps = steps_of(train, source.setting)
        self.step = 0
        self._unrecorded = UNRECORDED_STEPS
        self.parameters = [p for p in learner.parameters() if p.requires_grad]
        self.lr = torch.tensor(train.lr, device=source.device)
        self.optimizer = optimizer.build_optimizer(train, self.parameters, self.lr)
        self.augmented = Augmentation.of(source.key, train.crop_padding, train.flip, train.jitter)
        # Collectives are not captured in the CUDA graph, so with several processes only the gradient is.
        self._eager: Step = self._update if world.size == 1 else self._gradient
        self._apply: Step = self._eager

    def advance(self) -> dict[str, Tensor]:
        """Take one outer step and return the learner's metrics as device tensors, without a host sync."""
        self.lr.fill_(optimizer.lr_at(self.train, self.step, self.steps))
        episodes = self.draw(self.step * self.train.meta_batch)
        if self._unrecorded == 0 and can_record(self.learner, self.lr.device):
            try:
                self._apply = record(self._eager, episodes)
            except RuntimeError as error:
                reason = str(error).split("\n", 1)[0]
                _log.warning("Training goes on without a CUDA graph, slower: %s", reason)
        metrics = (
            self._step_with_oom_retry(episodes)
            if self.world.size == 1
            else self._distributed_step(episodes)
        )
        self._unrecorded -= 1
        self.step += 1
        return metrics

    def draw(self, first: int) -> TaskBatch:
        """Draw this process's share of the ``meta_batch`` episodes from number ``first`` on; uint8."""
        first += self.mine.start
        return self.augmented(self.source.draw(first, len(self.mine)), first)

    def state_dict(self) -> dict[str, Any]:
        """Return all state that the next steps depend on, for `load_state_dict` of an identical loop."""
        return {
            "step": self.step,
            "chunk_size": self.learner.chunk_size,
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from the state of another loop, with the same results as that loop would give."""
        self.step = state["step"]
        self.learner.chunk_size = state["chunk_size"]  # another chunk size would round differently
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr

    def _step_with_oom_retry(self, episodes: TaskBatch) -> dict[str, Tensor]:
        """Take the step, halving the chunk size on OOM; raise RunFailedError if one task does not fit."""
        while True:
            try:
                return self._apply(episodes)
            except Exception as error:
                chunk = self.learner.chunk_size or len(episodes.support_x)
                if not out_of_memory(error):
                    raise
                if chunk == 1:
                    raise RunFailedError(
                        "one training task does not fit into memory: fewer train.ways, train.shots or "
                        "train.queries, or a smaller backbone, would"
                    ) from None
            self.learner.chunk_size = chunk // 2
            self._apply = self._eager  # a captured step would keep the old chunk size
            release(self.lr.device)
            _log.warning("Out of memory: trained in chunks of %d tasks from now on", chunk // 2)

    def _distributed_step(self, episodes: TaskBatch) -> dict[str, Tensor]:
        """Take a step whose meta-batch is shared by several processes.

        PeerLostError leaves the state as before the step.
        """
        before = [buffer.clone() for buffer in self.learner.buffers()]
        metrics = self._step_with_oom_retry(episodes)
        means = [p.grad for p in self.parameters if p.grad is not None]
        means += [b for b in self.learner.buffers() if b.is_floating_point()]
        means += metrics.values()
        flat = torch.cat([mean.flatten() for mean in means])
        flat *= len(self.mine) / self.train.meta_batch
        try:
            self.world.all_reduce(flat)
        except PeerLostError:
            for buffer, value in zip(self.learner.buffers(), before, strict=True):
                buffer.copy_(value)
            raise
        for mean, part in zip(means, flat.split([mean.numel() for mean in means]), strict=True):
            mean.copy_(part.view_as(mean))
        self._optimizer_step()
        return metrics

    def _update(self, episodes: TaskBatch) -> dict[str, Tensor]:
        metrics = self._gradient(episodes)
        self._optimizer_step()
        return metrics

    def _gradient(self, episodes: TaskBatch) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        return self.learner.meta_gradient(to_float(episodes))

    def _optimizer_step(self) -> None:
        optimizer.clip(self.train, self.parameters)
        self.optimizer.step()
        advance_step(self.learner)


def can_record(learner: Learner, device: torch.device) -> bool:
    """Return whether training steps are to be captured in a CUDA graph."""
    return device.type == "cuda" and learner.supports_cuda_graph


def steps_of(train: Train, setting: Setting) -> int:
    """Return how many outer steps the budget of training examples allows, rounded up."""
    return -(-train.examples // (train.meta_batch * setting.examples))


def ends(steps: int, validations: int) -> list[int]:
    """Return the outer steps after which training is validated, evenly spaced and including the last."""
    return sorted({round(steps * n / validations) for n in range(1, validations + 1)} - {0})


class Training:
    """The outer loop from its first to its last step, with evenly spaced validations.

    Validation time is not counted. Its results decide which parameters are selected as the best
    (the first of equals), never how training proceeds. Training can be saved whenever `run` pauses
    and resumed from there, in another process as well, with the same parameters, history and
    selection.
    """

    def __init__(
        self, loop: OuterLoop, validations: int, kept: "TrainingCache | None" = None
    ) -> None:
        """Prepare a training; ``kept`` caches states for or from cells with the same training."""
        self.loop, self.kept = loop, kept
        self.ends = ends(loop.steps, validations)
        self.history: list[ValidationPoint] = []
        self.best: ValidationPoint | None = None
        self.best_state: dict[str, Tensor] = {}
        self.seconds = 0.0
        self.process_seconds = 0.0
        """CPU time of all threads during ``seconds``."""
        self.losses: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.repeating = False
        """Whether another cell's training is replayed from the cache, without taking its steps."""

    def run(
        self,
        validate: Callable[[], Tensor],
        synchronize: Callable[[], None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> Iterator[ValidationPoint | None]:
        """Train to the end; yield each validation, and None at each pause in between.

        It pauses every `MAX_SECONDS_BETWEEN_PAUSES`, and after the step in which ``stopping``
        became true.

        Args:
            validate: Returns the score of each validation task.
            synchronize: Waits for the device.
            stopping: Whether training should pause as soon as possible.

        Raises:
            RunFailedError: The loss diverged, or not even one task fits into memory.
        """
        if not self.ends:
            return
        loop = self.loop
        if self.kept and self.kept.has(self.ends):
            self.repeating = True
            for end in self.ends[len(self.history) :]:
                self._repeat(end, self.kept)
                yield self._validation_point(validate())
            return
        # Warm-up on a copy, untimed: the first step of a process loads code and fills caches.
        OuterLoop(copy.deepcopy(loop.learner), loop.source, loop.train, loop.world).advance()
        for end in self.ends[len(self.history) :]:
            self._train_until(end, synchronize, stopping)
            while self.loop.step < end:
                yield None
                self._train_until(end, synchronize, stopping)
            if self.kept:
                self.kept.write(end, self._reached())
            yield self._validation_point(validate())

    def state_dict(self) -> dict[str, Any]:
        """Return the state of training, made only of tensors, numbers and strings."""
        return {
            "loop": self.loop.state_dict(),
            "history": [each.asdict() for each in self.history],
            "best": self.best.asdict() if self.best else None,
            "best_state": self.best_state,
            "seconds": self.seconds,
            "process_seconds": self.process_seconds,
            "losses": _stacked(self.losses),
            "scores": _stacked(self.scores),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of another training of the same cell."""
        self.loop.load_state_dict(state["loop"])
        self.history = [ValidationPoint(**each) for each in state["history"]]
        self.best = ValidationPoint(**state["best"]) if state["best"] else None
        self.best_state = state["best_state"]
        self.seconds, self.process_seconds = state["seconds"], state["process_seconds"]
        device = self.loop.lr.device  # files are loaded to the CPU
        self.losses = list(state["losses"].to(device).unbind())
        self.scores = list(state["scores"].to(device).unbind())

    def _reached(self) -> dict[str, Any]:
        """Return the state of training that a validation depends on."""
        return {
            "learner": self.loop.learner.state_dict(),
            "seconds": self.seconds,
            "process_seconds": self.process_seconds,
            "losses": _stacked(self.losses),
            "scores": _stacked(self.scores),
        }

    def _repeat(self, end: int, kept: "TrainingCache") -> None:
        """Restore the cached state at a validation of another training with the same steps."""
        state = kept.read(end)
        self.loop.step = end
        self.loop.learner.load_state_dict(state["learner"])
        self.seconds, self.process_seconds = state["seconds"], state["process_seconds"]
        self.losses = list(state["losses"].unbind())
        self.scores = list(state["scores"].unbind())

    def _train_until(
        self, end: int, synchronize: Callable[[], None], stopping: Callable[[], bool]
    ) -> None:
        """Take timed steps until ``end``, the next pause or a request to stop."""
        self.loop.learner.train()
        synchronize()
        pause = time.monotonic() + MAX_SECONDS_BETWEEN_PAUSES
        start, worked = time.perf_counter(), time.process_time()
        try:
            while self.loop.step < end:
                metrics = self.loop.advance()
                self.losses.append(metrics["loss"])
                self.scores.append(metrics["score"])
                if self.loop.world.any_rank(stopping() or time.monotonic() > pause):
                    break
            synchronize()
        finally:  # also count the steps before a lost peer
            self.seconds += time.perf_counter() - start
            self.process_seconds += time.process_time() - worked
        losses = torch.stack(self.losses)
        if not losses.isfinite().all():
            self._diverge(losses.tolist())

    def _diverge(self, losses: list[float]) -> None:
        """Raise DivergedError that names the step; ``losses`` are those since the last validation."""
        lost = next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
        step = self.loop.step - len(losses) + lost + 1
        last = losses[lost - 1] if lost else (self.history[-1].train_loss if self.history else None)
        before = f"the last finite one was {last:.4g}" if last is not None else "none was finite"
        raise DivergedError(
            f"the training loss became {losses[lost]} at step {step:,} of {self.loop.steps:,}; {before}; "
            "a lower train.lr or inner rate may help"
        )

    def _validation_point(self, scores: Tensor) -> ValidationPoint:
        mean, ci95 = mean_ci95(scores)
        found = ValidationPoint(
            self.loop.step * self.loop.train.meta_batch,
            self.seconds,
            torch.stack(self.losses).mean().item(),
            torch.stack(self.scores).mean().item(),
            mean,
            ci95,
        )
        self.losses, self.scores = [], []
        self.history.append(found)
        metric = self.loop.source.domain.metric
        if self.best is None or metric.is_better(mean, self.best.val_score):
            self.best, self.best_state = found, copy.deepcopy(self.loop.learner.state_dict())
        return found


def _stacked(values: list[Tensor]) -> Tensor:
    """Return the values as one tensor, which is written much faster than thousands of scalars."""
    return torch.stack(values) if values else torch.empty(0)
