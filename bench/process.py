"""What this process asks of the system, for speed and for honest figures; never for results."""

import ctypes
import os
import platform

GLIBC = platform.libc_ver()[0] == "glibc"
GLIBC_TRIM_THRESHOLD, GLIBC_MMAP_THRESHOLD = -1, -3


def tune() -> None:
    """Let this process train fast on a CPU, and leave other programs room to run.

    - OpenMP's threads wait for each other by spinning, by default for so long that training gets
      many times slower when another program wants one of the cores: they shall give up sooner.
    - glibc's malloc returns large tensors to the system when they are freed, and each page that is
      handed out anew costs a page fault: it shall keep them (those up to 32 MiB, its limit).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if GLIBC:
        libc = ctypes.CDLL(None)
        libc.mallopt(GLIBC_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(GLIBC_TRIM_THRESHOLD, 2**31 - 1)


def release_memory() -> None:
    """Give what was freed back to the system, so that what the process holds is what it uses."""
    if GLIBC:
        ctypes.CDLL(None).malloc_trim(0)
