"""``python -m bench.status``: which cells of a sweep are done, and the state of the others."""

import sys
from collections import Counter

from bench.config import explain
from bench.core.signals import run_command
from bench.sweep.callback import grid
from bench.sweep.status import overrides_of, state, table

USAGE = """\
Usage: python -m bench.status [OVERRIDE...]

Shows each cell of a sweep, given by the overrides of its command such as algo=maml,protonet seed=0,1
results_dir=DIR; without any, of the last sweep in DIR/sweeps (DIR is 'results'). A cell is
  done         finished
  stale        finished by another version of the code
  failed       has a record that says why; retry_failed=true runs it again
  running      some process is at it
  interrupted  begun and not ended; the sweep's command goes on with it
  tuning       not begun, since the trials that find its options have not all ended
  missing      not begun
The status is 0 when all are done, 1 when some are not, 2 for a mistake. Nothing is run."""


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        cells = [(each, state(each)) for each in grid(overrides_of(arguments))]
    except explain.MISTAKES as error:
        return explain.report(error)
    print(table(cells))
    counts = Counter(word for _, (word, _) in cells)
    print(f"\n{len(cells)} cells: {', '.join(f'{n} {word}' for word, n in counts.items())}.")
    notes: dict[tuple[str, str], list[str]] = {}
    for each, (word, note) in cells:
        notes.setdefault((word, note), []).append(" ".join(each))
    for (word, note), those in notes.items():
        if note:
            print(f"{word}: {those[0] if len(those) == 1 else f'{len(those)} cells'}: {note}")
    return int(set(counts) != {"done"})


if __name__ == "__main__":
    sys.exit(run_command(main))
