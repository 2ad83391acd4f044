"""``python3 tools/gpu/there.py STEP SECONDS``: run a step of the campaign on the GPU machine.

Requires only a Python with torch, and the packed .gpu/. Results are written to the folder OUT.
"""

import argparse
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKED = ROOT / ".gpu"
BASE = Path(os.environ.get("BASE", tempfile.gettempdir())) / "fewshot-bench-gpu"
STEPS = ("smoke", "layers", "speed", "cells")
TESTS = [
    "tests/bench/engine/test_cuda_graph.py",
    "tests/bench/engine/test_deterministic.py",
    "tests/bench/engine/test_energy.py",
    "tests/algorithms/test_laws.py",
]


def main() -> int:
    """Unpack .gpu/ if not done yet, run the step, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python3 tools/gpu/there.py", description=__doc__)
    parser.add_argument("step", choices=[*STEPS, "tests"])
    parser.add_argument("seconds", type=int, help="that the step may take")
    given, more = parser.parse_known_args()
    unpack()
    environment = os.environ | variables()
    Path(environment["OUT"]).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"tools.gpu.{given.step}", f"--seconds={given.seconds}", *more]
    if given.step == "tests":
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "cuda or gpu or energy",
            *TESTS,
            *more,
        ]
    try:
        return subprocess.run(
            command, cwd=ROOT, env=environment, timeout=given.seconds + 30
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"{given.step} did not end in time and was killed")
        return 1


def variables() -> dict[str, str]:
    """Return the environment variables of the step."""
    path = [ROOT, ROOT / "bench/sweep/plugins", BASE / "site"]
    return {
        "BASE": str(BASE),
        "OUT": os.environ.get("OUT", str(BASE / "out")),
        "BENCH_COMMIT": (PACKED / "commit").read_text(),
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONUNBUFFERED": "1",
    }


def unpack() -> None:
    """Unpack packages, data and earlier results to their places, once."""
    if not (BASE / "site").exists():
        with tarfile.open(PACKED / "site.tar.gz") as archive:
            archive.extractall(BASE, filter="data")
    prepared = BASE / "cache/prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    for packed in PACKED.glob("*.pt.xz"):
        if not (prepared / packed.stem).exists():
            (prepared / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    parts = sorted(PACKED.glob("results.tar.gz.*"))
    if parts and not (BASE / "results").exists():
        with (BASE / "results.tar.gz").open("wb") as whole:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, whole)
        with tarfile.open(BASE / "results.tar.gz") as archive:
            archive.extractall(BASE, filter="data")


if __name__ == "__main__":
    sys.exit(main())
