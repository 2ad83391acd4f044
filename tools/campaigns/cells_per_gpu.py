"""``python -m tools.campaigns.cells_per_gpu``: find how many concurrent cells are fastest.

One cell of small images leaves most of a large GPU idle. This runs the same cells with 1, 2, 4 and
8 at a time with ``launcher=joblib``, each time in a fresh folder, and measures from the start of
the first cell to the end of the last, without what comes before (loading, checks, data) and after
(the report).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.report.tables import markdown

ROOT = Path(__file__).parent.parent.parent


def main(arguments: list[str]) -> int:
    """Measure, and print a table and the best setting; the overrides of the cells come last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    parser.add_argument("--cells", type=int, default=16, help="in each sweep, seeds 0, 1 ... (16)")
    parser.add_argument("--times", type=int, default=3, help="that each sweep is measured (3)")
    parser.add_argument("overrides", nargs="*", default=["algo=maml", "dataset=omniglot"])
    given = parser.parse_intermixed_args(arguments)
    rates: dict[int, list[float]] = {count: [] for count in given.at_once}
    for _ in range(given.times):
        for count in given.at_once:  # in turns, so that a disturbance affects all of them
            with tempfile.TemporaryDirectory() as folder:
                seconds = measured(Path(folder), count, given.cells, given.overrides)
            rates[count].append(3600 * given.cells / seconds)
    print(table(rates))
    best = max(rates, key=lambda count: statistics.median(rates[count]))
    print(f"\nMost cells an hour: hydra.launcher.n_jobs={best} ({' '.join(given.overrides)}).")
    return 0


def measured(folder: Path, count: int, cells: int, overrides: list[str]) -> float:
    """Return the seconds that a sweep with `count` cells at a time takes for all cells."""
    seeds = f"seed={','.join(map(str, range(cells)))}"
    workers = ["launcher=joblib", f"hydra.launcher.n_jobs={count}"]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "bench", "-m", seeds, *workers, *overrides, f"results_dir={folder}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    begin = None
    while sweep.poll() is None and len(list(folder.glob("runs/*/record.json"))) < cells:
        if begin is None and list(folder.glob("runs/.*.lock")):
            begin = time.monotonic()
        time.sleep(0.02)
    end = time.monotonic()
    if sweep.wait() or begin is None:
        raise SystemExit(f"the sweep with {count} at a time failed")
    return end - begin


def table(rates: dict[int, list[float]]) -> str:
    """Return a Markdown table: median and range of the measured cells per hour."""
    lines = []
    first = statistics.median(next(iter(rates.values())))
    for count, found in rates.items():
        middle = statistics.median(found)
        span = f"{min(found):.1f} to {max(found):.1f}"
        lines.append([str(count), f"{middle:.1f}", span, f"{middle / first:.2f}"])
    return markdown(["at a time", "cells/h", "range", "times the first"], lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
