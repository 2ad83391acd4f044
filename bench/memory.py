"""How many tasks are trained at once: as many as the memory for them allows."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from algorithms.learner import Episodes, Learner
from algorithms.threads import threads_for

CPU_BUDGET = 160 * 2**20
"""Bytes of all threads together. A step's peak is about twice what is held: below 400 MiB here, where
larger chunks bring no more speed."""
CUDA_SHARE = 0.2
"""Of the memory of a GPU, for the same reason. Not of what is free now: other chunks round otherwise."""


def tasks_at_once(learner: Learner, task: Episodes) -> int:
    """Tasks whose outer gradients fit the memory together, a power of two; from one task as a sample."""
    device = task.support_x.device
    if device.type == "cuda":
        budget = CUDA_SHARE * torch.cuda.mem_get_info(device)[1]
    else:
        budget = CPU_BUDGET / threads_for(device)
    fitting = max(1, int(budget // max(1, held_bytes(learner, task))))
    return 1 << fitting.bit_length() - 1


REFUSALS = ("DefaultCPUAllocator", "could not create a", "could not execute a")
"""How torch, and oneDNN beneath it, tell in words alone that a CPU has no memory left."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in REFUSALS)


def release(device: torch.device) -> None:
    """Give memory back that torch keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def held_bytes(learner: Learner, task: Episodes) -> int:
    """Most bytes that the outer gradient of a meta-batch keeps at one time to differentiate with.

    Memory that several operators keep counts once. The learner is not changed.
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
