"""The outer loop, one for all learners."""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from algorithms.learner import Episodes, Learner
from bench.config import Train
from bench.data.episodes import EpisodeSampler
from bench.evaluate import to_float
from bench.graph import Step, record
from bench.stats import mean_ci95

_log = logging.getLogger(__name__)

UNRECORDED_STEPS = 3
"""Steps before one is recorded as a CUDA graph: they set up libraries and the optimizer's state."""


class Diverged(Exception):
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

    ``steps`` is what the budget of training images allows, rounded up. One step draws the next
    ``meta_batch`` episodes, asks the learner for its outer gradient and applies the optimizer,
    whose rate follows the schedule from ``rate`` at first to 0 after the last step (``linear``,
    ``cosine``), is halved every ``halving_steps`` (``halving``), or stays. On CUDA the step is soon
    replayed as a graph; the numbers are the same.
    """

    def __init__(self, learner: Learner, sampler: EpisodeSampler, train: Train) -> None:
        self.learner, self.sampler, self.train = learner, sampler, train
        ways, shots, queries = sampler.shape
        self.steps = -(-train.images // (train.meta_batch * ways * (shots + queries)))
        self.step = 0
        parameters = [p for p in learner.parameters() if p.requires_grad]
        # The rate is a tensor and the optimizer capturable, so that a recorded step reads them anew.
        self.rate = torch.tensor(train.rate, device=sampler.pool.images.device)
        self.optimizer: torch.optim.Optimizer
        if train.optimizer == "adam":
            self.optimizer = torch.optim.Adam(parameters, lr=self.rate, fused=True, capturable=True)
        else:
            self.optimizer = torch.optim.SGD(parameters, lr=self.rate, fused=True)
        self._apply: Step = self._update

    def advance(self) -> dict[str, Tensor]:
        """Do one outer step; returns the learner's metrics, unread."""
        done = min(1, self.step / self.steps)  # measuring speed goes on after the last step
        factor = {
            "constant": 1.0,
            "linear": 1 - done,
            "cosine": (1 + math.cos(math.pi * done)) / 2,
            "halving": 0.5 ** (self.step // self.train.halving_steps),
        }[self.train.schedule]
        self.rate.fill_(self.train.rate * factor)
        meta_batch = self.train.meta_batch
        episodes = self.sampler.draw(self.step * meta_batch, meta_batch)
        if self.step == UNRECORDED_STEPS and recordable(self.learner, self.rate.device):
            try:
                self._apply = record(self._update, episodes)
            except RuntimeError as error:
                reason = str(error).split("\n", 1)[0]
                _log.warning("Training goes on without a CUDA graph, slower: %s", reason)
        metrics = self._apply(episodes)
        self.step += 1
        return metrics

    def _update(self, episodes: Episodes) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        metrics = self.learner.meta_gradient(to_float(episodes))
        self.optimizer.step()
        return metrics


def recordable(learner: Learner, device: torch.device) -> bool:
    """Whether training steps shall be recorded as a CUDA graph."""
    return device.type == "cuda" and learner.recordable


def train(
    loop: OuterLoop,
    validate: Callable[[], Tensor],
    validations: int,
    synchronize: Callable[[], None],
) -> Iterator[tuple[Checkpoint, dict[str, Tensor] | None]]:
    """Run the outer loop, with ``validations`` evenly spaced validations, the last one at its end.

    Yields each checkpoint with the learner's state if it is the best so far (the first wins ties),
    else None. ``validate`` gives accuracies in percent; it runs off the clock, and what it finds
    decides which state is kept, never how training goes on. Raises Diverged.
    """
    # The first step of a process loads code and fills caches: done on a copy, before the clock starts.
    OuterLoop(copy.deepcopy(loop.learner), loop.sampler, loop.train).advance()
    best, seconds, done = -math.inf, 0.0, 0
    for number in range(1, validations + 1):
        until = round(loop.steps * number / validations)
        if until == done:
            continue
        loop.learner.train()
        synchronize()
        start = time.perf_counter()
        metrics = [loop.advance() for _ in range(done, until)]
        synchronize()
        seconds += time.perf_counter() - start
        done = until
        loss = torch.stack([m["loss"] for m in metrics]).mean().item()
        if not math.isfinite(loss):
            raise Diverged(
                f"the training loss became {loss} within {done * loop.train.meta_batch} episodes; "
                "a lower train.rate or inner rate may help"
            )
        right = torch.stack([m["accuracy"] for m in metrics]).mean().item()
        mean, ci95 = mean_ci95(validate())
        state = None
        if mean > best:
            best = mean
            state = copy.deepcopy(loop.learner.state_dict())
        episodes = done * loop.train.meta_batch
        yield Checkpoint(episodes, seconds, loss, 100 * right, mean, ci95), state
