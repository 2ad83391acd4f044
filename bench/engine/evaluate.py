"""Evaluation on numbered episodes: accuracy, loss and calibration of each."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from algorithms.learner import Episodes, Learner
from bench.core.errors import RunFailedError
from bench.engine.distributed import SINGLE_PROCESS, ProcessGroup
from bench.engine.memory import out_of_memory
from bench.tasks.classification.episodes import EpisodeSampler

BINS = 15
"""Number of confidence bins of the calibration error, as in Guo et al. 2017."""


class Scores(NamedTuple):
    """Metrics of the query predictions of E episodes, float64 on the CPU.

    - ``accuracy`` [E]: the share of correct predictions, in percent;
    - ``loss`` [E]: mean cross-entropy, in nats;
    - ``brier`` [E]: mean over queries of sum_n (p_n - [n is the label])^2, from 0 to 2 (Brier 1950);
    - ``gaps`` [E, 15]: per bin of confidence (the largest p_n), the sum of [correct] - confidence over
      the queries in it, divided by the number of all queries;
    - ``unsolved`` [E]: whether the learner reports that it could not solve the task, bool; always False
      for a learner that does not check.
    """

    accuracy: Tensor
    loss: Tensor
    brier: Tensor
    gaps: Tensor
    unsolved: Tensor

    @property
    def ece(self) -> Tensor:
        """Expected calibration error of each episode in percent [E] (Guo et al. 2017, 1706.04599).

        Its bins hold few queries, so it is positive even if calibration is perfect.
        """
        return 100 * self.gaps.abs().sum(1)

    @property
    def pooled_ece(self) -> float:
        """Expected calibration error in percent, with the queries of all episodes pooled."""
        return 100 * self.gaps.mean(0).abs().sum().item()


def scores(logits: Tensor, labels: Tensor, unsolved: Tensor | None = None) -> Scores:
    """Return the scores of logits [E, M, N] for labels [E, M]; ``unsolved`` is [E], bool."""
    logits = logits.double()
    likelihoods = logits.softmax(-1)
    confidence, answer = likelihoods.max(-1)
    right = (answer == labels).double()
    truth = F.one_hot(labels, logits.shape[-1])
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = torch.zeros(len(logits), BINS, dtype=logits.dtype, device=logits.device)
    gaps.scatter_add_(1, bins, (right - confidence) / labels.shape[1])
    return Scores(
        100 * right.mean(1),
        F.cross_entropy(logits.mT, labels, reduction="none").mean(1),
        (likelihoods - truth).square().sum(-1).mean(1),
        gaps,
        torch.zeros(len(logits), dtype=torch.bool) if unsolved is None else unsolved.cpu(),
    )


def to_float(episodes: Episodes) -> Episodes:
    """Return the episodes with images scaled from uint8 to float32 in [0, 1], on their device."""
    return episodes._replace(
        support_x=episodes.support_x.float().div_(255), query_x=episodes.query_x.float().div_(255)
    )


@torch.no_grad()
def depends_on_query_order(learner: Learner, sampler: EpisodeSampler) -> bool:
    """Return whether predictions change when the queries of an episode are reordered.

    Queries are ordered by class, so such a learner could infer their labels from their positions.

    Raises:
        RunFailedError: A prediction is NaN, which would compare as different from itself.
    """
    training = learner.training
    learner.eval()
    try:
        drawn = to_float(sampler.draw(0, 1))
        order = torch.arange(drawn.query_x.shape[1], device=drawn.query_x.device)
        order = order.view(sampler.shape.ways, -1).T.flatten()  # interleave the classes
        one = learner(drawn.support_x, drawn.support_y, drawn.query_x)[:, order].softmax(-1)
        other = learner(drawn.support_x, drawn.support_y, drawn.query_x[:, order]).softmax(-1)
        if one.isnan().any() or other.isnan().any():
            raise RunFailedError(
                "a prediction of a validation episode is no number, before any training"
            )
        return not torch.allclose(one, other, atol=0.01)
    finally:
        learner.train(training)


@torch.no_grad()
def evaluate(
    learner: Learner,
    sampler: EpisodeSampler,
    episodes: int,
    eval_batch_size: int,
    world: ProcessGroup = SINGLE_PROCESS,
) -> Scores:
    """Return the scores of episodes 0..episodes-1, distributed over the processes and gathered in all.

    ``eval_batch_size`` episodes are adapted in parallel; the number is halved while they do not fit
    into memory. The learner is left unchanged.

    Raises:
        RunFailedError: Not even one episode fits into memory.
    """
    training = learner.training
    learner.eval()
    try:
        parts: list[Scores] = []
        mine = world.share(episodes)
        done = mine.start
        while done < mine.stop:
            drawn = to_float(sampler.draw(done, min(eval_batch_size, mine.stop - done)))
            try:
                logits = learner(drawn.support_x, drawn.support_y, drawn.query_x)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if eval_batch_size == 1:
                    raise RunFailedError(
                        "one test task does not fit into memory: fewer ways, shots or queries, or a "
                        "smaller backbone, would"
                    ) from None
                eval_batch_size //= 2
                continue
            parts.append(scores(logits.cpu(), drawn.query_y.cpu(), learner.unsolved))
            done += len(logits)
        all_parts = [part for parts in world.all_gather(parts) for part in parts]
        return Scores(*(torch.cat(part) for part in zip(*all_parts, strict=True)))
    finally:
        learner.train(training)
