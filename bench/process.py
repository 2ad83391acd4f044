"""What this process asks of the system, for speed and for honest figures; never for results."""

import ctypes
import os
import platform

GLIBC = platform.libc_ver()[0] == "glibc"
GLIBC_TRIM_THRESHOLD, GLIBC_MMAP_MAX = -1, -4


def tune() -> None:
    """Let this process train fast on a CPU, and leave other programs room to run.

    - OpenMP's threads wait for each other by spinning, by default for so long that training gets
      many times slower when another program wants one of the cores: they shall give up sooner.
    - glibc's malloc maps large tensors one by one and returns them to the system when they are
      freed; each page that is handed out anew costs a page fault. It shall map none and keep all.
    - cuBLAS repeats itself to the bit only with workspaces of its own for each stream: 32 MiB, which
      it reads once a process, so that it cannot wait for ``deterministic=true``.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if GLIBC:
        libc = ctypes.CDLL(None)
        libc.mallopt(GLIBC_MMAP_MAX, 0)
        libc.mallopt(GLIBC_TRIM_THRESHOLD, 2**31 - 1)


def release_memory() -> None:
    """Give what was freed back to the system, so that what the process holds is what it uses."""
    if GLIBC:
        ctypes.CDLL(None).malloc_trim(0)
