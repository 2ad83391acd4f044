"""What a learner makes of numbered episodes: accuracy, loss and calibration of each."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from algorithms.learner import Episodes, Learner
from bench.data.episodes import EpisodeSampler
from bench.memory import out_of_memory
from bench.mistake import Failed
from bench.world import ALONE, World

BINS = 15
"""Bins of confidence of the calibration error, as in Guo et al. 2017."""


class Scores(NamedTuple):
    """How well the queries of E episodes were classified, float64 on the CPU.

    - ``accuracy`` [E]: the share of right answers, in percent;
    - ``loss`` [E]: mean cross-entropy, in nats;
    - ``brier`` [E]: mean over queries of sum_n (p_n - [n is the label])^2, from 0 to 2 (Brier 1950);
    - ``gaps`` [E, 15]: by bin of confidence (the largest p_n), the sum of [right] - confidence over
      the queries in it, divided by the number of all queries;
    - ``unsolved`` [E]: whether the learner says that it could not solve the task, bool; never true of
      a learner that does not check.
    """

    accuracy: Tensor
    loss: Tensor
    brier: Tensor
    gaps: Tensor
    unsolved: Tensor

    @property
    def ece(self) -> Tensor:
        """Expected calibration error of each episode in percent [E] (Guo et al. 2017, 1706.04599).

        Its bins hold few queries, so that it is above zero even where calibration is perfect.
        """
        return 100 * self.gaps.abs().sum(1)

    @property
    def pooled_ece(self) -> float:
        """Expected calibration error in percent of the queries of all episodes together."""
        return 100 * self.gaps.mean(0).abs().sum().item()


def scores(logits: Tensor, labels: Tensor, unsolved: Tensor | None = None) -> Scores:
    """Return the scores of logits [E, M, N] for labels [E, M], of which some [E] were not solved."""
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
    """The same episodes with images scaled from uint8 to float32 in [0, 1], on their device."""
    return episodes._replace(
        support_x=episodes.support_x.float().div_(255), query_x=episodes.query_x.float().div_(255)
    )


@torch.no_grad()
def depends_on_places(learner: Learner, sampler: EpisodeSampler) -> bool:
    """Whether the learner answers otherwise when the queries of an episode come in another order.

    They come class by class, so that such a learner could read their labels off their places. Raises
    Failed where an answer is no number, which would be another than itself.
    """
    training = learner.training
    learner.eval()
    try:
        drawn = to_float(sampler.draw(0, 1))
        order = torch.arange(drawn.query_x.shape[1], device=drawn.query_x.device)
        order = order.view(sampler.shape.ways, -1).T.flatten()  # the classes in turns
        one = learner(drawn.support_x, drawn.support_y, drawn.query_x)[:, order].softmax(-1)
        other = learner(drawn.support_x, drawn.support_y, drawn.query_x[:, order]).softmax(-1)
        if one.isnan().any() or other.isnan().any():
            raise Failed("a prediction of a validation episode is no number, before any training")
        return not torch.allclose(one, other, atol=0.01)
    finally:
        learner.train(training)


@torch.no_grad()
def evaluate(
    learner: Learner, sampler: EpisodeSampler, episodes: int, at_once: int, world: World = ALONE
) -> Scores:
    """The scores of episodes 0..episodes-1, each by one process of the world, told to all.

    ``at_once`` episodes are adapted side by side, or as many as fit into memory. The learner is left
    as it was found. Raises Failed when not even one episode fits.
    """
    training = learner.training
    learner.eval()
    try:
        parts: list[Scores] = []
        mine = world.share(episodes)
        done = mine.start
        while done < mine.stop:
            drawn = to_float(sampler.draw(done, min(at_once, mine.stop - done)))
            try:
                logits = learner(drawn.support_x, drawn.support_y, drawn.query_x)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if at_once == 1:
                    raise Failed(
                        "one test task does not fit into memory: fewer ways, shots or queries, or a "
                        "smaller backbone, would"
                    ) from None
                at_once //= 2
                continue
            parts.append(scores(logits.cpu(), drawn.query_y.cpu(), learner.unsolved))
            done += len(logits)
        all_parts = [part for parts in world.each(parts) for part in parts]
        return Scores(*(torch.cat(part) for part in zip(*all_parts, strict=True)))
    finally:
        learner.train(training)
