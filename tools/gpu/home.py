"""``python -m tools.gpu.home FOLDER NAME``: import results into results/reference/NAME."""

import argparse
import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

from bench.report.command import main as report

ROOT = Path(__file__).parents[2]
PACKED = ROOT / ".gpu"
LEFT_THERE = ("model.json", "model.safetensors", "checkpoint.pt")
"""Files that a reference does not keep."""


def main() -> int:
    """Copy finished runs, build their tables, keep all results for later; return the status."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu.home", description=__doc__)
    parser.add_argument("folder", type=Path, help="with the parts results.tar.gz.*")
    parser.add_argument("name", help="of the reference, such as omniglot-gpu")
    given = parser.parse_args()
    parts = sorted(given.folder.glob("results.tar.gz.*"))
    if not parts:
        parser.error(f"{given.folder} has no results.tar.gz.0: was the step cells run there?")
    reference = ROOT / "results/reference" / given.name
    with tempfile.TemporaryDirectory() as folder:
        packed = io.BytesIO(b"".join(part.read_bytes() for part in parts))
        with tarfile.open(fileobj=packed) as archive:
            archive.extractall(folder, filter="data")
        names = bring(Path(folder) / "results/runs", reference / "runs")
    PACKED.mkdir(exist_ok=True)
    for part in parts:  # the next campaign resumes from these
        shutil.copy(part, PACKED / part.name)
    print(f"{len(names)} finished runs came home: {', '.join(names)}")
    return report([f"results_dir={reference}"]) if names else 0


def bring(runs: Path, reference: Path) -> list[str]:
    """Copy the finished runs of a folder into another and return their names."""
    found = []
    for record in sorted(runs.glob("*/record.json")):
        if json.loads(record.read_text())["status"] == "done":
            target = reference / record.parent.name
            shutil.copytree(
                record.parent,
                target,
                ignore=shutil.ignore_patterns(*LEFT_THERE),
                dirs_exist_ok=True,
            )
            found.append(target.name)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
