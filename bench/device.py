"""What the runner must know about a device."""

import math
import platform
import resource
import time
from functools import cache
from pathlib import Path

import torch

from bench.config import Precision
from bench.mistake import Mistake
from bench.process import release_memory
from bench.world import here


def choose(name: str) -> torch.device:
    """The device of a name; ``auto`` prefers CUDA, then MPS. Raises Mistake when it is not here."""
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind in present if present[kind])
    if not present[name]:
        raise Mistake(
            f"device={name} was asked for, but torch {torch.__version__} finds no such device here; "
            "use device=cpu or device=auto."
        )
    if name == "mps" and here().size > 1:
        raise Mistake(
            "Processes cannot train together on mps: use device=cpu, or leave out torchrun."
        )
    if name != "cuda" or here().size == 1:
        return torch.device(name)
    number, gpus = here().local, torch.cuda.device_count()
    if number >= gpus:
        raise Mistake(
            f"There are more processes here than the {gpus} GPUs: start one a GPU, or use device=cpu."
        )
    torch.cuda.set_device(number)
    return torch.device(name, number)


def use_deterministic(on: bool) -> None:
    """Let this process compute the same bits each time, or as fast as it can.

    A CPU does both. When it is on, torch raises RuntimeError where CUDA has no such algorithm.
    `bench.process.tune` has given cuBLAS the memory that it needs for this.
    """
    torch.use_deterministic_algorithms(on)
    # Else torch fills each new tensor with NaN, which costs a kernel and which nothing here reads.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@cache
def matmul_gflop_per_s(device: torch.device, precision: Precision) -> float:
    """What this device reaches in a large product of matrices, in 10^9 operations a second.

    The best of several, as it stands for what is possible; measured once a process, when
    `bench.precision.use` has set the precision.
    """
    size, best = 2048, math.inf
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.rand(size, size, device=device, dtype=dtype)
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        matrix @ matrix
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def describe(device: torch.device) -> str:
    """The name of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement for `peak_mib`, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        release_memory()
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib(device: torch.device) -> float:
    """Most memory in use since `reset_peak_memory`, in MiB.

    On CUDA what tensors took; elsewhere what the whole process took (its resident set), which on
    systems without /proc is the peak since the start of the process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
