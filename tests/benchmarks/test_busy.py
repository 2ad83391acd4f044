"""A busy machine is refused before anything is timed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_a_busy_machine_is_refused_with_its_load(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    options = ["--benchmark-enable", "--max-load=-1", f"--speed-file={file}"]
    plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:xdist",
            "tests/benchmarks/test_speed.py",
            *options,
        ],
        cwd=ROOT,
        env=plain,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 4, done.stdout + done.stderr  # pytest's status of a usage error
    said = done.stdout + done.stderr
    assert "load average of this machine is" in said and "no speed is measured above -1" in said
    assert not file.exists()
