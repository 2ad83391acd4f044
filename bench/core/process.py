"""Process-wide settings (OpenMP, malloc, cuBLAS) that affect speed but not results."""

import ctypes
import os
import platform

GLIBC = platform.libc_ver()[0] == "glibc"
GLIBC_TRIM_THRESHOLD, GLIBC_MMAP_MAX = -1, -4


def configure() -> None:
    """Configure this process to train fast on a CPU and to leave other programs room to run.

    - OpenMP threads wait for each other by spinning, by default for so long that training slows
      down many times when another program needs one of the cores: shorten the spinning.
    - glibc's malloc maps large tensors one by one and returns them to the system when they are
      freed; each page that is allocated again costs a page fault. Disable mapping and keep all
      memory.
    - cuBLAS is bitwise reproducible only with separate workspaces for each stream: 32 MiB. It reads
      this setting once per process, so it cannot wait for ``deterministic=true``.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if GLIBC:
        libc = ctypes.CDLL(None)
        libc.mallopt(GLIBC_MMAP_MAX, 0)
        libc.mallopt(GLIBC_TRIM_THRESHOLD, 2**31 - 1)


def release_memory() -> None:
    """Return freed memory to the system, so that the process holds only what it uses."""
    if GLIBC:
        ctypes.CDLL(None).malloc_trim(0)
