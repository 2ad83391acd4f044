"""``python -m bench.report.speed FILE``: ratios to a peer and scaling, from saved benchmarks."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from bench.core.errors import UserError
from bench.core.signals import run_command

USAGE = """\
Usage: python -m bench.report.speed FILE

Prints the ratios to learn2learn and the cost at scale as Markdown tables, from what
  pytest tests/benchmarks --benchmark-enable --speed-file=FILE
has saved, or with --benchmark-json=FILE at its end. "2 x 1" is two processes of one thread."""


Finite = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[Finite, Field(ge=0)]


class Result(TypedDict):
    """Tasks/s of a whole machine against a peer; the quartiles of the ratio are over rounds.

    Each side uses its fastest layout, "processes x threads of each".
    """

    work: str
    ours_tasks_per_s: Amount
    ours_layout: str
    peer_tasks_per_s: Amount
    peer_layout: str
    ratio: Amount
    ratio_low: Amount
    ratio_high: Amount
    rounds: int
    stolen: Amount  # steal: fraction of CPU time that the hypervisor gave to others


def markdown(results: Iterable[Result]) -> str:
    """Return one row per kind of work: both rates (medians), the median ratio and its quartiles.

    If much time was stolen by other virtual machines, a ratio is unreliable.
    """
    lines = [
        "| work | ours, tasks/s | on | learn2learn, tasks/s | on | ratio | quartiles | stolen |",
        "| --- | ---: | --- | ---: | --- | ---: | --- | ---: |",
    ]
    for r in results:
        lines.append(
            f"| {r['work']} | {r['ours_tasks_per_s']:,.1f} | {r['ours_layout']} "
            f"| {r['peer_tasks_per_s']:,.1f} | {r['peer_layout']} "
            f"| **{r['ratio']:.2f}x** | {r['ratio_low']:.2f} to {r['ratio_high']:.2f} "
            f"| {r['stolen']:.0%} |"
        )
    return "\n".join(lines)


class Growth(TypedDict):
    """Median time (ms) and memory (MiB above the process) of a call as one size grows."""

    work: str
    axis: str
    sizes: list[int]
    ms: list[Amount]
    mib: list[Amount]
    exponent: Finite  # of the time, from the second-to-last size to the last


def growth_markdown(results: Iterable[Growth]) -> str:
    """Return one row per kind of work: sizes, times, memory, and p, the final growth as size^p."""
    lines = [
        "| work | what grows | sizes | ms | MiB above the process | p |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for r in results:
        sizes, times, memory = (
            " / ".join(texts)
            for texts in (
                [f"{size:,}" for size in r["sizes"]],
                [f"{ms:#.3g}" if ms < 99.95 else f"{ms:,.0f}" for ms in r["ms"]],
                [f"{mib:,.0f}" for mib in r["mib"]],
            )
        )
        lines.append(
            f"| {r['work']} | {r['axis']} | {sizes} | {times} | {memory} | {r['exponent']:.1f} |"
        )
    return "\n".join(lines)


_RESULTS = TypeAdapter(list[Result], config=ConfigDict(strict=True))
_GROWTHS = TypeAdapter(list[Growth], config=ConfigDict(strict=True))


def read(file: Path) -> tuple[list[Result], list[Growth]]:
    """Return the ratios and growths in a benchmark file.

    Raises:
        UserError: If the file is unreadable or holds neither.
    """
    try:
        saved = [b["extra_info"] for b in json.loads(file.read_text())["benchmarks"]]
        ratios = _RESULTS.validate_python([info for info in saved if "ratio" in info])
        growths = _GROWTHS.validate_python([info for info in saved if "exponent" in info])
    except OSError as error:
        raise UserError(f"Cannot read {file} ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{file} is no JSON file of pytest-benchmark.") from None
    if not ratios and not growths:
        raise UserError(f"{file} holds no comparison; save one with --benchmark-enable.")
    return ratios, growths


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status: 0, or 2 on wrong usage or a `UserError`."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    if len(arguments) != 1:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        ratios, growths = read(Path(arguments[0]))
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    tables = [markdown(ratios)] if ratios else []
    tables += [growth_markdown(growths)] if growths else []
    print("\n\n".join(tables))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
