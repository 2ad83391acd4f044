"""``python -m bench.report.speed FILE``: ratios to a peer as a table, from saved benchmarks."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from bench.mistake import Mistake

USAGE = """\
Usage: python -m bench.report.speed FILE

Prints the ratios to learn2learn as a Markdown table, from what
  pytest tests/benchmarks --benchmark-enable --benchmark-json=FILE
has saved."""


class Result(TypedDict):
    """Our tasks/s against a peer's for one kind of work; the ratio's quartiles are over rounds."""

    work: str
    ours_tasks_per_s: float
    peer_tasks_per_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    stolen: float  # share of its processor time that a virtual machine did not get


def markdown(results: Iterable[Result]) -> str:
    """One row a kind of work: both rates (medians), the median ratio and its quartiles.

    Where much time was stolen by other virtual machines, a ratio says little.
    """
    lines = [
        "| work | ours, tasks/s | learn2learn, tasks/s | ratio | quartiles | stolen |",
        "| --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for r in results:
        lines.append(
            f"| {r['work']} | {r['ours_tasks_per_s']:,.1f} | {r['peer_tasks_per_s']:,.1f} "
            f"| **{r['ratio']:.2f}x** | {r['ratio_low']:.2f} to {r['ratio_high']:.2f} "
            f"| {r['stolen']:.0%} |"
        )
    return "\n".join(lines)


def read(file: Path) -> list[Result]:
    """The comparisons in a file of pytest-benchmark; raises Mistake when there are none."""
    try:
        saved = json.loads(file.read_text())["benchmarks"]
        found = [b["extra_info"] for b in saved if "ratio" in b["extra_info"]]
    except OSError as error:
        raise Mistake(f"Cannot read {file} ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError):
        raise Mistake(f"{file} is no JSON file of pytest-benchmark.") from None
    if not found:
        raise Mistake(f"{file} holds no comparison; save one with --benchmark-enable.")
    return found


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status: 0, or 2 for a user's mistake."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    if len(arguments) != 1:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        print(markdown(read(Path(arguments[0]))))
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
