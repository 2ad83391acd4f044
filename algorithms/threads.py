"""Work on independent chunks of tasks side by side, one thread each.

Operators on a few tasks are too small to be shared well by the threads of a CPU: a thread that
does all of a chunk by itself waits for nobody.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads_for(device: torch.device) -> int:
    """Threads that work on chunks: those torch may use on a CPU, one where the device is another."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def side_by_side(
    work: Callable[[Item], Result], chunks: Sequence[Item], device: torch.device
) -> list[Result]:
    """The results of the work on each chunk, in their order.

    On a CPU there is a thread for each chunk, as far as torch's threads go, and those share its
    operators out among them. The work must not change anything that chunks have in common.
    Gradients are recorded if the caller records them.
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
