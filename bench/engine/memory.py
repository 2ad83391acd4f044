"""Memory budget: how many tasks are trained in one chunk, and detection of out-of-memory errors."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from algorithms.learner import Learner, TaskBatch
from algorithms.nn.threads import threads_for

CPU_BUDGET = 160 * 2**20
"""Bytes for all threads together. The peak of a step is about twice the saved tensors: below 400
MiB here, beyond which larger chunks are no faster."""
CUDA_SHARE = 0.2
"""Share of a GPU's memory, for the same reason. Of total rather than free memory, since another
chunk size rounds differently."""


def choose_chunk_size(learner: Learner, task: TaskBatch) -> int:
    """Return how many tasks' outer gradients fit into the memory budget together, a power of two.

    The memory per task is measured on ``task``, a sample of one task.
    """
    device = task.support_x.device
    if device.type == "cuda":
        budget = CUDA_SHARE * torch.cuda.mem_get_info(device)[1]
    else:
        budget = CPU_BUDGET / threads_for(device)
    fitting = max(1, int(budget // max(1, held_bytes(learner, task))))
    return 1 << fitting.bit_length() - 1


REFUSALS = ("DefaultCPUAllocator", "could not create a", "could not execute a")
"""Substrings of the messages by which torch, and oneDNN below it, report that CPU memory is exhausted."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether the error is an out-of-memory error."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in REFUSALS)


def release(device: torch.device) -> None:
    """Return memory cached by torch to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def held_bytes(learner: Learner, task: TaskBatch) -> int:
    """Return the peak number of bytes that autograd saves for the outer gradient of a meta-batch.

    Memory saved by several operators counts once. The learner is not changed.
    """
    holders: Counter[int] = Counter()
    held = most = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal held, most
            self.tensor = tensor
            self.memory = tensor.untyped_storage()
            holders[self.memory.data_ptr()] += 1
            if holders[self.memory.data_ptr()] == 1:
                held += self.memory.nbytes()
                most = max(most, held)

        def __del__(self) -> None:
            nonlocal held
            holders[self.memory.data_ptr()] -= 1
            if holders[self.memory.data_ptr()] == 0:
                held -= self.memory.nbytes()

    def unpack(packed: Any) -> Tensor:
        tensor: Tensor = packed.tensor
        return tensor

    learner = copy.deepcopy(learner).train()
    with torch.autograd.graph.saved_tensors_hooks(Held, unpack):
        learner.meta_gradient(task)
    return most
