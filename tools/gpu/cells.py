"""Run published cells for a given time, several at once on one GPU; unfinished ones are saved."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

BASE, OUT = (Path(os.environ.get(name, ".")) for name in ("BASE", "OUT"))
LAST_SECONDS = 30
"""Time reserved for saving the cells and packing the results."""
PART = 15 * 2**20
"""Bytes per part of the results: small enough for any means of transfer."""


def main() -> int:
    """Run several bench.reproduce processes in one folder, and pack the results."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu.cells", description=__doc__)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--at-once", type=int, help="8, or 3 where processes cannot share the GPU")
    parser.add_argument("--only", default="omniglot", help="as in bench.reproduce (omniglot)")
    parser.add_argument("options", nargs="*", help="of bench.reproduce, such as seeds=0")
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    with shared_gpu() as shared:
        count = given.at_once or (8 if shared else 3)
        options = [f"only={given.only}", f"results_dir={BASE}/results", f"cache_dir={BASE}/cache"]
        options += [*given.options, f"until={given.seconds - LAST_SECONDS}s"]
        running = [start(number, options) for number in range(count)]
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        for process in running:
            process.kill()  # safe: the last save is a few seconds old
    print((OUT / "cells0.txt").read_text()[-4000:])
    pack(BASE / "results")
    return 0


def start(number: int, options: list[str]) -> subprocess.Popen[bytes]:
    """Start one of the processes, with its own log file."""
    with (OUT / f"cells{number}.txt").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.reproduce", *options], stdout=log, stderr=log
        )


@contextlib.contextmanager
def shared_gpu() -> Iterator[bool]:
    """Enable NVIDIA's MPS in the context, if it is installed and works; yield whether it does."""
    control = shutil.which("nvidia-cuda-mps-control")
    if not control:
        yield False
        return
    before = dict(os.environ)
    for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
        os.environ[name] = str(BASE / "mps")
    (BASE / "mps").mkdir(exist_ok=True)
    subprocess.run([control, "-d"], check=False)
    try:
        trial = "import torch; torch.ones(9, device='cuda').sum().item()"
        works = subprocess.run([sys.executable, "-c", trial], timeout=60).returncode == 0
    except subprocess.TimeoutExpired:
        works = False
    if not works:
        subprocess.run([control], input=b"quit\n", check=False)
        os.environ.clear()
        os.environ.update(before)
    print("MPS: processes share the GPU" if works else "no MPS: processes take turns", flush=True)
    yield works
    if works:
        subprocess.run([control], input=b"quit\n", check=False)


def pack(results: Path) -> None:
    """Write all results, including those of unfinished cells, in parts to OUT."""
    whole = BASE / "packed.tar.gz"
    with tarfile.open(whole, "w:gz", compresslevel=3) as archive:
        archive.add(results, "results", filter=lambda f: None if f.name.endswith(".lock") else f)
    with whole.open("rb") as source:
        for number in range(-(-whole.stat().st_size // PART)):
            (OUT / f"results.tar.gz.{number}").write_bytes(source.read(PART))
    print(f"packed {whole.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())
