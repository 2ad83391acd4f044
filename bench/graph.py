"""A training step as one CUDA graph: recorded once, then replayed with a single launch."""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

from algorithms.learner import Episodes

Step = Callable[[Episodes], dict[str, Tensor]]


def record(step: Step, episodes: Episodes) -> Step:
    """The same step as a CUDA graph, for episodes of the shapes and device of these.

    A step is hundreds of operators, and a GPU does most of them faster than they can be launched
    one by one. The step must have run before (libraries set themselves up then), must not wait for
    the device, and must leave what it changes at its place in memory. It is not run here. Raises
    RuntimeError when it cannot be recorded.
    """
    static = Episodes(*(torch.empty_like(part).copy_(part) for part in episodes))
    gc.collect()  # an old graph that is freed during a recording would end it
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            metrics = step(static)
    finally:
        torch.cuda.set_stream(stream)  # torch stays on its own where the recording fails at its end

    def replay(episodes: Episodes) -> dict[str, Tensor]:
        for place, part in zip(static, episodes, strict=True):
            place.copy_(part)
        graph.replay()
        return {name: value.clone() for name, value in metrics.items()}

    return replay
