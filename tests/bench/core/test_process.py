"""A tuned process keeps the memory of large tensors instead of asking for it again and again."""

import ctypes
import platform
import subprocess
import sys

import pytest

KEPT = """
import ctypes, sys
if sys.argv[1] == "tuned":
    from bench.core import process
    process.configure()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
    ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p])
class Information(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost").split()]
libc.mallinfo2.restype = Information
before = libc.mallinfo2().arena
libc.free(libc.malloc(100 * 2**20))
print((libc.mallinfo2().arena - before) >> 20)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="the setting is one of glibc, and read by mallinfo2 of glibc 2.33",
)
@pytest.mark.parametrize(("mode", "least", "most"), [("as it is", 0, 1), ("tuned", 95, 106)])
def test_a_tuned_process_keeps_freed_memory(mode: str, least: int, most: int) -> None:
    """How many MiB of 100 that were freed stay with the process, a few of which it had before."""
    command = [sys.executable, "-c", KEPT, mode]
    kept = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert least <= int(kept) <= most
