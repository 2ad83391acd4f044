"""Device selection, synchronisation, memory statistics and a matmul benchmark."""

import math
import platform
import resource
import time
from functools import cache
from pathlib import Path

import torch

from bench.config.schema import Precision
from bench.core.errors import UserError
from bench.core.process import release_memory
from bench.engine.distributed import process_group


def resolve(name: str) -> torch.device:
    """Return the device of a name; ``auto`` prefers CUDA, then MPS.

    With several processes on CUDA, each gets the GPU of its local rank.

    Raises:
        UserError: The device is not available, or not suitable for the process group.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind in present if present[kind])
    if not present[name]:
        raise UserError(
            f"device={name} was asked for, but torch {torch.__version__} finds no such device here; "
            "use device=cpu or device=auto."
        )
    if name == "mps" and process_group().size > 1:
        raise UserError(
            "Processes cannot train together on mps: use device=cpu, or leave out torchrun."
        )
    if name != "cuda" or process_group().size == 1:
        return torch.device(name)
    number, gpus = process_group().local, torch.cuda.device_count()
    if number >= gpus:
        raise UserError(
            f"There are more processes here than the {gpus} GPUs: start one a GPU, or use device=cpu."
        )
    torch.cuda.set_device(number)
    return torch.device(name, number)


def use_deterministic(on: bool) -> None:
    """Switch deterministic algorithms on or off for this process.

    On a CPU, results are deterministic either way, at full speed. If on, torch raises RuntimeError
    where CUDA has no deterministic algorithm. `bench.core.process.configure` has already given
    cuBLAS the workspace that it needs for this.
    """
    torch.use_deterministic_algorithms(on)
    # Otherwise torch fills each new tensor with NaN: an extra kernel whose result nothing here reads.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work queued on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@cache
def matmul_gflop_per_s(device: torch.device, precision: Precision) -> float:
    """Return the throughput of a large matrix product on this device, in 10^9 operations per second.

    It is the best of several runs, as an estimate of the attainable peak. It is measured once per
    process; `bench.engine.precision.apply` must have set the precision before.
    """
    size, best = 2048, math.inf
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    generator = torch.Generator(device).manual_seed(0)  # the global one is the host program's
    matrix = torch.rand(size, size, device=device, dtype=dtype, generator=generator)
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        matrix @ matrix
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def describe(device: torch.device) -> str:
    """Return the model name of the processor (GPU or CPU)."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak read by `peak_mib`, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        release_memory()
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib(device: torch.device) -> float:
    """Return the peak memory use since `reset_peak_memory`, in MiB.

    On CUDA it is the memory allocated for tensors; elsewhere the resident set of the whole process,
    which on systems without /proc is the peak since the start of the process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
