"""Accuracy of a learner on numbered episodes."""

import torch
from torch import Tensor

from algorithms.learner import Episodes, Learner, accuracy
from bench.data.episodes import EpisodeSampler


def to_float(episodes: Episodes) -> Episodes:
    """The same episodes with images scaled from uint8 to float32 in [0, 1], on their device."""
    return episodes._replace(
        support_x=episodes.support_x.float().div_(255), query_x=episodes.query_x.float().div_(255)
    )


@torch.no_grad()
def evaluate(learner: Learner, sampler: EpisodeSampler, episodes: int, at_once: int) -> Tensor:
    """Accuracy in percent of each of the episodes 0..episodes-1: float64 [episodes] on the CPU.

    ``at_once`` episodes are adapted side by side. The learner is left as it was found.
    """
    training = learner.training
    learner.eval()
    try:
        accuracies = []
        for first in range(0, episodes, at_once):
            drawn = to_float(sampler.draw(first, min(at_once, episodes - first)))
            logits = learner(drawn.support_x, drawn.support_y, drawn.query_x)
            accuracies.append(accuracy(logits, drawn.query_y))
        return torch.cat(accuracies).double().cpu() * 100
    finally:
        learner.train(training)
