"""Evaluation on numbered tasks, by the metrics of their domain."""

import torch
from torch import Tensor

from algorithms.learner import Learner, TaskBatch
from bench.core.errors import RunFailedError
from bench.engine.distributed import SINGLE_PROCESS, ProcessGroup
from bench.engine.memory import out_of_memory
from bench.tasks.base import TaskSource
from bench.tasks.pool import IMAGE_DIMENSIONS


def to_float(batch: TaskBatch) -> TaskBatch:
    """Return the batch with uint8 images scaled to float32 in [0, 1]; other inputs are unchanged."""
    is_image = batch.query_x.ndim == 2 + IMAGE_DIMENSIONS
    if batch.query_x.dtype != torch.uint8 or not is_image:
        return batch
    return batch._replace(
        support_x=batch.support_x.float().div_(255), query_x=batch.query_x.float().div_(255)
    )


@torch.no_grad()
def depends_on_query_order(learner: Learner, source: TaskSource) -> bool:
    """Return whether predictions change when the queries of a task are reordered.

    Queries are ordered by class, so such a learner could infer their labels from their positions.

    Raises:
        RunFailedError: A prediction is NaN, which would compare as different from itself.
    """
    training = learner.training
    learner.eval()
    try:
        drawn = to_float(source.draw(0, 1))
        order = torch.arange(drawn.query_x.shape[1], device=drawn.query_x.device)
        of_class = len(order) // source.setting.groups
        order = (order % of_class).argsort(stable=True).flip(0)  # interleave the classes
        one = learner(drawn.support_x, drawn.support_y, drawn.query_x)[:, order]
        other = learner(drawn.support_x, drawn.support_y, drawn.query_x[:, order])
        one, other = learner.loss.predictions(one), learner.loss.predictions(other)
        if one.isnan().any() or other.isnan().any():
            raise RunFailedError("a prediction of a validation episode is NaN, before any training")
        return not torch.allclose(one, other, atol=0.01 * max(1.0, one.abs().max().item()))
    finally:
        learner.train(training)


@torch.no_grad()
def evaluate(
    learner: Learner,
    source: TaskSource,
    tasks: int,
    eval_batch_size: int,
    world: ProcessGroup = SINGLE_PROCESS,
) -> dict[str, Tensor]:
    """Return the results of tasks 0..tasks-1, distributed over the processes and gathered in all.

    They are those of `Domain.evaluate`, and ``unsolved`` [T], bool: whether the learner reports that
    it could not solve the task; always False for a learner that does not check. ``eval_batch_size``
    tasks are adapted in parallel; the number is halved while they do not fit into memory. The
    learner is left unchanged.

    Raises:
        RunFailedError: Not even one task fits into memory.
    """
    training = learner.training
    learner.eval()
    try:
        parts: list[dict[str, Tensor]] = []
        mine = world.share(tasks)
        done = mine.start
        while done < mine.stop:
            size = min(eval_batch_size, mine.stop - done)
            drawn = to_float(source.draw(done, size))
            try:
                found = source.domain.evaluate(learner, drawn, source.tasks(done, size))
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
            count = len(found["score"])
            unsolved = learner.unsolved
            found["unsolved"] = (
                torch.zeros(count, dtype=torch.bool) if unsolved is None else unsolved.cpu()
            )
            parts.append(found)
            done += count
        all_parts = [part for parts in world.all_gather(parts) for part in parts]
        return {name: torch.cat([part[name] for part in all_parts]) for name in all_parts[0]}
    finally:
        learner.train(training)
