"""Settings of the process, to be made before torch is imported; they change speed, not results."""

import ctypes
import os
import platform

GLIBC_TRIM_THRESHOLD, GLIBC_MMAP_THRESHOLD = -1, -3


def tune() -> None:
    """Let this process train fast on a CPU, and leave other programs room to run.

    - OpenMP's threads wait for each other by spinning, by default for so long that training gets
      many times slower when another program wants one of the cores: they shall give up sooner.
    - glibc's malloc returns large tensors to the system when they are freed, and each page that is
      handed out anew costs a page fault: it shall keep them (those up to 32 MiB, its limit).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(GLIBC_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(GLIBC_TRIM_THRESHOLD, 2**31 - 1)
