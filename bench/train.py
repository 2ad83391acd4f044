"""The outer loop, one for all learners, and a training that can stop anywhere and go on later."""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from algorithms.learner import Episodes, Learner, Shape
from algorithms.noise import count_step
from bench import recipe
from bench.config import Train
from bench.data.augmentation import Augmentation
from bench.data.episodes import EpisodeSampler
from bench.evaluate import to_float
from bench.graph import Step, record
from bench.memory import out_of_memory, release
from bench.mistake import Failed, Lost
from bench.stats import mean_ci95
from bench.world import ALONE, World

if TYPE_CHECKING:
    from bench.kept import Kept

_log = logging.getLogger(__name__)

UNRECORDED_STEPS = 3
"""Steps before one is recorded as a CUDA graph: they set up libraries and the optimizer's state."""


STRETCH_SECONDS = 10.0
"""How long training goes on without a pause in which it could be saved."""


class Diverged(Failed):
    """The training loss stopped being a finite number."""


@dataclass(frozen=True)
class Checkpoint:
    """One validation: where training stood, and how good it was. Accuracies are in percent."""

    episodes: int
    seconds: float  # of training alone: validation is off the clock
    train_loss: float  # mean since the last validation
    train_accuracy: float
    val_accuracy: float
    val_ci95: float

    asdict = asdict


class OuterLoop:
    """Steps the meta-parameters of a learner along numbered training episodes.

    ``steps`` is what the budget of training images allows, rounded up; none without one. One step draws
    the next ``meta_batch`` episodes, asks the learner for its outer gradient and applies the optimizer,
    whose rate follows the schedule (see `bench.recipe`). On CUDA the step is soon replayed as a graph;
    the numbers are the same.

    Each process of a world has its share of the meta-batch. Outer gradients, running statistics and
    metrics, all of them means over tasks, are then put together by one sum, after which all
    processes do the same step: the numbers are those of one process, up to rounding.
    """

    def __init__(
        self,
        learner: Learner,
        sampler: EpisodeSampler,
        train: Train,
        world: World = ALONE,
    ) -> None:
        self.learner, self.sampler, self.train, self.world = learner, sampler, train, world
        self.mine = world.share(train.meta_batch)
        self.steps = steps_of(train, sampler.shape)
        self.step = 0
        self._unrecorded = UNRECORDED_STEPS
        self.parameters = [p for p in learner.parameters() if p.requires_grad]
        self.rate = torch.tensor(train.rate, device=sampler.pool.images.device)
        self.optimizer = recipe.optimizer(train, self.parameters, self.rate)
        self.augmented = Augmentation.of(sampler.key, train.crop_padding, train.flip, train.jitter)
        # What other processes take part in cannot be recorded along with the rest.
        self._eager: Step = self._update if world.size == 1 else self._gradient
        self._apply: Step = self._eager

    def advance(self) -> dict[str, Tensor]:
        """Do one outer step; returns the learner's metrics, unread."""
        self.rate.fill_(recipe.rate_at(self.train, self.step, self.steps))
        episodes = self.draw(self.step * self.train.meta_batch)
        if self._unrecorded == 0 and recordable(self.learner, self.rate.device):
            try:
                self._apply = record(self._eager, episodes)
            except RuntimeError as error:
                reason = str(error).split("\n", 1)[0]
                _log.warning("Training goes on without a CUDA graph, slower: %s", reason)
        metrics = self._fitting(episodes) if self.world.size == 1 else self._together(episodes)
        self._unrecorded -= 1
        self.step += 1
        return metrics

    def draw(self, first: int) -> Episodes:
        """This process's of the ``meta_batch`` training episodes from number ``first`` on; uint8."""
        first += self.mine.start
        return self.augmented(self.sampler.draw(first, len(self.mine)), first)

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, for `load_state_dict` of a loop made alike."""
        return {
            "step": self.step,
            "tasks_at_once": self.learner.tasks_at_once,
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where another loop was, with the same numbers as that would have had."""
        self.step = state["step"]
        self.learner.tasks_at_once = state["tasks_at_once"]  # other chunks would round otherwise
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def _fitting(self, episodes: Episodes) -> dict[str, Tensor]:
        """Do the step, in ever smaller chunks while memory does not suffice; raises Failed."""
        while True:
            try:
                return self._apply(episodes)
            except Exception as error:
                chunk = self.learner.tasks_at_once or len(episodes.support_x)
                if not out_of_memory(error):
                    raise
                if chunk == 1:
                    raise Failed(
                        "one training task does not fit into memory: fewer train.ways, train.shots or "
                        "train.queries, or a smaller backbone, would"
                    ) from None
            self.learner.tasks_at_once = chunk // 2
            self._apply = self._eager  # a recorded step would do as it did before
            release(self.rate.device)
            _log.warning("Out of memory: trained in chunks of %d tasks from now on", chunk // 2)

    def _together(self, episodes: Episodes) -> dict[str, Tensor]:
        """The step of a meta-batch that several processes share; Lost leaves all as it was before it."""
        before = [buffer.clone() for buffer in self.learner.buffers()]
        metrics = self._fitting(episodes)
        means = [p.grad for p in self.parameters if p.grad is not None]
        means += [b for b in self.learner.buffers() if b.is_floating_point()]
        means += metrics.values()
        flat = torch.cat([mean.flatten() for mean in means])
        flat *= len(self.mine) / self.train.meta_batch
        try:
            self.world.add(flat)
        except Lost:
            for buffer, value in zip(self.learner.buffers(), before, strict=True):
                buffer.copy_(value)
            raise
        for mean, part in zip(means, flat.split([mean.numel() for mean in means]), strict=True):
            mean.copy_(part.view_as(mean))
        self._descend()
        return metrics

    def _update(self, episodes: Episodes) -> dict[str, Tensor]:
        metrics = self._gradient(episodes)
        self._descend()
        return metrics

    def _gradient(self, episodes: Episodes) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        return self.learner.meta_gradient(to_float(episodes))

    def _descend(self) -> None:
        if self.train.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.train.clip_value)
        self.optimizer.step()
        count_step(self.learner)


def recordable(learner: Learner, device: torch.device) -> bool:
    """Whether training steps shall be recorded as a CUDA graph."""
    return device.type == "cuda" and learner.recordable


def steps_of(train: Train, shape: Shape) -> int:
    """Return how many outer steps the budget of training images allows, rounded up."""
    return -(-train.images // (train.meta_batch * shape.ways * (shape.shots + shape.queries)))


def ends(steps: int, validations: int) -> list[int]:
    """Return the outer steps after which a training is validated, evenly spaced; the last one is."""
    return sorted({round(steps * n / validations) for n in range(1, validations + 1)} - {0})


class Training:
    """The outer loop from its first step to its last, with evenly spaced validations.

    Validations run off the clock; what they find decides which parameters are kept as the best (the
    first of equals), never how training goes on. It can be saved whenever `run` pauses, and goes on
    from there, in another process too, to the same parameters, history and choice.
    """

    def __init__(self, loop: OuterLoop, validations: int, kept: "Kept | None" = None) -> None:
        """``kept`` is where states are kept for other cells of the same training, or come from."""
        self.loop, self.kept = loop, kept
        self.ends = ends(loop.steps, validations)
        self.history: list[Checkpoint] = []
        self.best: Checkpoint | None = None
        self.best_state: dict[str, Tensor] = {}
        self.seconds = 0.0
        self.process_seconds = 0.0
        """Processor time of all threads in these seconds."""
        self.losses: list[Tensor] = []
        self.accuracies: list[Tensor] = []
        self.repeating = False
        """Whether another cell's training is repeated from what was kept of it, without its steps."""

    def run(
        self,
        validate: Callable[[], Tensor],
        synchronize: Callable[[], None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> Iterator[Checkpoint | None]:
        """Train to the end; yields each validation, and None where it pauses between two.

        It pauses every `STRETCH_SECONDS`, and after the step in which ``stopping`` became true.
        ``validate`` gives accuracies in percent. Raises Failed.
        """
        if not self.ends:
            return
        loop = self.loop
        if self.kept and self.kept.has(self.ends):
            self.repeating = True
            for end in self.ends[len(self.history) :]:
                self._repeat(end, self.kept)
                yield self._checkpoint(validate())
            return
        # The first step of a process loads code and fills caches: done on a copy, off the clock.
        OuterLoop(copy.deepcopy(loop.learner), loop.sampler, loop.train, loop.world).advance()
        for end in self.ends[len(self.history) :]:
            self._stretch(end, synchronize, stopping)
            while self.loop.step < end:
                yield None
                self._stretch(end, synchronize, stopping)
            if self.kept:
                self.kept.write(end, self._reached())
            yield self._checkpoint(validate())

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, of tensors, numbers and texts alone."""
        return {
            "loop": self.loop.state_dict(),
            "history": [each.asdict() for each in self.history],
            "best": self.best.asdict() if self.best else None,
            "best_state": self.best_state,
            "seconds": self.seconds,
            "process_seconds": self.process_seconds,
            "losses": _stacked(self.losses),
            "accuracies": _stacked(self.accuracies),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where another training of the same cell stood."""
        self.loop.load_state_dict(state["loop"])
        self.history = [Checkpoint(**each) for each in state["history"]]
        self.best = Checkpoint(**state["best"]) if state["best"] else None
        self.best_state = state["best_state"]
        self.seconds, self.process_seconds = state["seconds"], state["process_seconds"]
        device = self.loop.rate.device  # a file is read to the CPU
        self.losses = list(state["losses"].to(device).unbind())
        self.accuracies = list(state["accuracies"].to(device).unbind())

    def _reached(self) -> dict[str, Any]:
        """What a validation needs to know of the training before it."""
        return {
            "learner": self.loop.learner.state_dict(),
            "seconds": self.seconds,
            "process_seconds": self.process_seconds,
            "losses": _stacked(self.losses),
            "accuracies": _stacked(self.accuracies),
        }

    def _repeat(self, end: int, kept: "Kept") -> None:
        """Stand at a validation where another training of the same steps stood."""
        state = kept.read(end)
        self.loop.step = end
        self.loop.learner.load_state_dict(state["learner"])
        self.seconds, self.process_seconds = state["seconds"], state["process_seconds"]
        self.losses = list(state["losses"].unbind())
        self.accuracies = list(state["accuracies"].unbind())

    def _stretch(
        self, end: int, synchronize: Callable[[], None], stopping: Callable[[], bool]
    ) -> None:
        """Steps on the clock, until the end or for some time."""
        self.loop.learner.train()
        synchronize()
        pause = time.monotonic() + STRETCH_SECONDS
        start, worked = time.perf_counter(), time.process_time()
        try:
            while self.loop.step < end:
                metrics = self.loop.advance()
                self.losses.append(metrics["loss"])
                self.accuracies.append(metrics["accuracy"])
                if self.loop.world.any(stopping() or time.monotonic() > pause):
                    break
            synchronize()
        finally:  # where another process has ended, the steps up to then are kept
            self.seconds += time.perf_counter() - start
            self.process_seconds += time.process_time() - worked
        losses = torch.stack(self.losses)
        if not losses.isfinite().all():
            self._diverge(losses.tolist())

    def _diverge(self, losses: list[float]) -> None:
        """Say where and how: ``losses`` are those of the steps since the last validation."""
        lost = next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
        step = self.loop.step - len(losses) + lost + 1
        last = losses[lost - 1] if lost else (self.history[-1].train_loss if self.history else None)
        before = f"the last finite one was {last:.4g}" if last is not None else "none was finite"
        raise Diverged(
            f"the training loss became {losses[lost]} at step {step:,} of {self.loop.steps:,}; {before}; "
            "a lower train.rate or inner rate may help"
        )

    def _checkpoint(self, accuracies: Tensor) -> Checkpoint:
        mean, ci95 = mean_ci95(accuracies)
        found = Checkpoint(
            self.loop.step * self.loop.train.meta_batch,
            self.seconds,
            torch.stack(self.losses).mean().item(),
            100 * torch.stack(self.accuracies).mean().item(),
            mean,
            ci95,
        )
        self.losses, self.accuracies = [], []
        self.history.append(found)
        if self.best is None or mean > self.best.val_accuracy:
            self.best, self.best_state = found, copy.deepcopy(self.loop.learner.state_dict())
        return found


def _stacked(values: list[Tensor]) -> Tensor:
    """One tensor, which is written much faster than thousands of scalars."""
    return torch.stack(values) if values else torch.empty(0)
