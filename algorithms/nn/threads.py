"""Thread-parallel work on independent chunks of tasks.

Operators on a few tasks are too small for intra-operator parallelism on a CPU: one thread per chunk
avoids synchronisation.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads_for(device: torch.device) -> int:
    """Return the number of threads for chunks: torch's own on a CPU, 1 on other devices."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def map_chunks(
    work: Callable[[Item], Result], chunks: Sequence[Item], device: torch.device
) -> list[Result]:
    """Return the results of ``work`` for each chunk, in order.

    On a CPU there is one thread per chunk, up to the number of torch's threads, which the workers
    divide among themselves for their operators. ``work`` must not modify anything that chunks
    share. Autograd is enabled in the workers if it is in the caller.
    """
    threads = threads_for(device)
    workers = min(len(chunks), threads)
    if workers == 1:
        return [work(chunk) for chunk in chunks]
    recording = torch.is_grad_enabled()

    def one(chunk: Item) -> Result:
        with torch.set_grad_enabled(recording):
            return work(chunk)

    return list(_pool(workers, threads // workers).map(one, chunks))


@cache
def _pool(workers: int, threads_each: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        workers, "chunks", initializer=torch.set_num_threads, initargs=(threads_each,)
    )
