"""Classification: the queries of a task get one of its N labels; good is accuracy."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from algorithms.learner import Learner, Setting, TaskBatch
from algorithms.losses import CrossEntropy
from bench.stats.intervals import mean_ci95
from bench.tasks.base import Domain, Metric, Tasks, TaskSource

MOST_CLASSES = 50
"""Maximum number of test classes that a run tells one by one."""
BINS = 15
"""Number of confidence bins of the calibration error, as in Guo et al. 2017."""


class Classification(Domain):
    """N-way classification, measured by accuracy, cross-entropy and calibration."""

    metric = Metric(name="accuracy", label="accuracy", unit="%", low=0, high=100)
    has_classes = True

    def loss(self, label_smoothing: float = 0.0) -> CrossEntropy:
        """Return the cross-entropy."""
        return CrossEntropy(label_smoothing)

    def outputs(self, setting: Setting, targets: Tensor | None) -> int:
        """Return the number of ways."""
        return setting.groups

    def evaluate(self, learner: Learner, batch: TaskBatch, tasks: Tasks) -> dict[str, Tensor]:
        """Return the `scores` of the queries of each task, and what its classes are taken for.

        ``taken`` [T, N, N] is the number of queries of each class that get each label, ``classes``
        [T, N] are the classes of the labels.
        """
        logits = learner(batch.support_x, batch.support_y, batch.query_x).cpu()
        labels, ways = batch.query_y.cpu(), batch.support_y.shape[1]
        pairs = labels * ways + logits.argmax(-1)
        taken = pairs.new_zeros(len(pairs), ways * ways)
        taken.scatter_add_(1, pairs, torch.ones_like(pairs))
        told = {"taken": taken.unflatten(1, (ways, ways)), "classes": batch.classes.cpu()}
        return scores(logits, labels) | told

    def files(
        self, learner: Learner, source: TaskSource, tested: dict[str, Tensor]
    ) -> dict[str, str]:
        """Return ``classes.csv`` for at most `MOST_CLASSES` test classes.

        It holds the accuracy of each, its 95 % half-width over the episodes that have the class, and
        for each other class the share (%) of its queries that are taken for it where both are asked.
        """
        import pandas as pd  # late: half a second of each command

        count = len(source.names)
        if count > MOST_CLASSES:
            return {}
        taken, classes = tested["taken"].double(), tested["classes"]
        asked = taken.sum(2)
        pairs = (classes[:, :, None] * count + classes[:, None, :]).flatten()
        both = asked[:, :, None].expand_as(taken)
        answers, queries = (
            torch.zeros(count * count, dtype=each.dtype)
            .scatter_add_(0, pairs, each.flatten())
            .view(count, count)
            for each in (taken, both)
        )
        right = 100 * taken.diagonal(dim1=1, dim2=2) / asked
        drawn = [n for n in range(count) if (classes == n).sum() > 1]
        rows = []
        for n in drawn:
            score, ci95 = mean_ci95(right[classes == n])
            shares = {
                f"as {source.names[m]}": float(100 * answers[n, m] / queries[n, m]) for m in drawn
            }
            facts: dict[str, Any] = {"queries": int(queries[n, n]), "accuracy": score, "ci95": ci95}
            rows.append({"class": source.names[n]} | facts | shares)
        return {"classes.csv": pd.DataFrame(rows).to_csv(index=False)} if rows else {}

    def summary(self, scores: dict[str, Tensor]) -> dict[str, float]:
        """Return mean loss and Brier score, and the ECE in percent with all queries pooled."""
        pooled = 100 * scores["gaps"].mean(0).abs().sum().item()
        return {
            "loss": scores["loss"].mean().item(),
            "brier": scores["brier"].mean().item(),
            "ece": pooled,
        }


def scores(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return metrics of logits [E, M, N] for labels [E, M], float64.

    - ``score`` [E]: the share of correct predictions, in percent;
    - ``loss`` [E]: mean cross-entropy, in nats;
    - ``ece`` [E]: expected calibration error in percent (Guo et al. 2017, 1706.04599), whose bins
      hold few queries, so that it is positive even if calibration is perfect;
    - ``brier`` [E]: mean over queries of sum_n (p_n - [n is the label])^2, from 0 to 2 (Brier 1950);
    - ``gaps`` [E, 15]: per bin of confidence (the largest p_n), the sum of [correct] - confidence over
      the queries in it, divided by the number of all queries.
    """
    logits = logits.double()
    likelihoods = logits.softmax(-1)
    confidence, answer = likelihoods.max(-1)
    right = (answer == labels).double()
    truth = F.one_hot(labels, logits.shape[-1])
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = torch.zeros(len(logits), BINS, dtype=logits.dtype, device=logits.device)
    gaps.scatter_add_(1, bins, (right - confidence) / labels.shape[1])
    return {
        "score": 100 * right.mean(1),
        "loss": F.cross_entropy(logits.mT, labels, reduction="none").mean(1),
        "ece": 100 * gaps.abs().sum(1),
        "brier": (likelihoods - truth).square().sum(-1).mean(1),
        "gaps": gaps,
    }
