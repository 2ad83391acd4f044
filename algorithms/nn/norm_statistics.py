"""Which images batch norm takes mean and variance from when queries are classified."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Statistics = Literal["running", "support", "support_and_query", "query", "all_queries"]
"""Choices, of which each learner allows some; only the last is transductive:

- ``running``: averages from training (ProtoNet's and MetaOptNet's official evaluation);
- ``support``: the support set;
- ``support_and_query``: the support set and the one query (Reptile's official evaluation);
- ``query``: the one query by itself;
- ``all_queries``: all queries together (MAML's official evaluation).
"""

BATCH_STATISTICS: tuple[Statistics, ...] = ("support", "support_and_query", "query", "all_queries")
"""Choices of a network without running averages."""


def run_queries(
    run: Callable[[Tensor, int | None], Tensor],
    support_x: Tensor,
    query_x: Tensor,
    statistics: Statistics,
) -> Tensor:
    """Return the output of ``run`` for the queries [T, M, C, H, W], normalised by ``statistics``.

    ``run(x, stats_from)`` returns [T, B, ...] for images [T, B, C, H, W]; batch norm uses the statistics
    of the first ``stats_from`` images of each task, or of all. ``statistics`` is one of
    `BATCH_STATISTICS`.
    """
    shots = support_x.shape[1]
    if statistics == "all_queries":
        return run(query_x, None)
    if statistics == "support":
        return run(torch.cat((support_x, query_x), 1), shots)[:, shots:]
    queries = query_x.split(1, dim=1)
    if statistics == "query":
        return torch.cat([run(query, None) for query in queries], 1)
    both = (torch.cat((support_x, query), 1) for query in queries)
    return torch.cat([run(images, None)[:, shots:] for images in both], 1)
