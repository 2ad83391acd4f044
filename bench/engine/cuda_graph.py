"""Capture of a training step in a CUDA graph: captured once, then replayed with a single launch."""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

from algorithms.learner import TaskBatch

Step = Callable[[TaskBatch], dict[str, Tensor]]


def record(step: Step, episodes: TaskBatch) -> Step:
    """Capture a step in a CUDA graph for episodes of the shapes and device of the given ones.

    A step launches hundreds of operators, most of which take less time on a GPU than their launch.
    The step must have run before (libraries initialise lazily), must not synchronise with the
    device, and must update its state in place, at fixed memory addresses. It is captured here, not
    executed.

    Args:
        step: The training step.
        episodes: Sample episodes; later ones need the same shapes and device.

    Returns:
        A function equivalent to ``step`` that replays the graph.

    Raises:
        RuntimeError: The step cannot be captured.
    """
    static = TaskBatch(*(torch.empty_like(part).copy_(part) for part in episodes))
    gc.collect()  # freeing an old graph during a capture would abort it
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            metrics = step(static)
    finally:
        torch.cuda.set_stream(stream)  # torch does not restore it if the capture fails at its end

    def replay(episodes: TaskBatch) -> dict[str, Tensor]:
        for place, part in zip(static, episodes, strict=True):
            place.copy_(part)
        graph.replay()
        return {name: value.clone() for name, value in metrics.items()}

    return replay
