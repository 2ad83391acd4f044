"""Whose images give batch norm its mean and variance when queries are classified."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Statistics = Literal["running", "support", "one_query", "lone_query", "queries"]
"""The choices, of which learners allow some; only the last is transductive:

- ``running``: averages from training (ProtoNet's and MetaOptNet's official evaluation);
- ``support``: the support set;
- ``one_query``: the support set and the one query (Reptile's official evaluation);
- ``lone_query``: the one query by itself;
- ``queries``: all queries together (MAML's official evaluation).
"""

OF_BATCHES: tuple[Statistics, ...] = ("support", "one_query", "lone_query", "queries")
"""The choices of a network that has no running averages."""


def of_queries(
    run: Callable[[Tensor, int | None], Tensor],
    support_x: Tensor,
    query_x: Tensor,
    statistics: Statistics,
) -> Tensor:
    """What ``run`` makes of the queries [T, M, C, H, W], with statistics of one of `OF_BATCHES`.

    ``run(x, rows)`` gives [T, B, ...] from images [T, B, C, H, W]; batch norm has the statistics of
    the first ``rows`` images of each task, or of all.
    """
    shots = support_x.shape[1]
    if statistics == "queries":
        return run(query_x, None)
    if statistics == "support":
        return run(torch.cat((support_x, query_x), 1), shots)[:, shots:]
    queries = query_x.split(1, dim=1)
    if statistics == "lone_query":
        return torch.cat([run(query, None) for query in queries], 1)
    both = (torch.cat((support_x, query), 1) for query in queries)
    return torch.cat([run(images, None)[:, shots:] for images in both], 1)
