"""``python -m bench.plan``: forecast the cost of a sweep on N workers, from measured rows."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

from bench.config import explain
from bench.core.errors import UserError
from bench.core.signals import run_command
from bench.report import read
from bench.report.rows import Row, done, phase_throughput
from bench.report.tables import ABSENT, duration, markdown, number
from bench.sweep.callback import grid
from bench.sweep.plan.estimate import Estimate, Times, estimate, idle_share
from bench.sweep.plan.groups import Group, grouped
from bench.sweep.plan.schedule import wall_seconds
from bench.sweep.status import overrides_of

USAGE = """\
Usage: python -m bench.plan [workers=N] [from=DIR] [OVERRIDE...]

Tells what a sweep, given by the overrides of its command such as algo=maml,protonet seed=0,1, would take
on N workers (1 when not given): hours, energy where it was measured, and wall time. Without overrides
but results_dir=DIR, it is the last sweep in DIR/sweeps (DIR is 'results').
Times are those of the finished runs in the results folder that from=DIR names (that of the sweep when
not given), one plan for each kind of machine among them. A cell whose very setting was not measured
takes the nearest rows of its learner, data set and backbone, scaled by the images that it trains on and
evaluates; which facts differ is told. Cells that are finished are not counted, nor trials of tune=optuna
that have ended. Nothing is run."""


class Machine(NamedTuple):
    """Kind of machine that rows were measured on."""

    device: str
    device_name: str
    threads: int

    @property
    def title(self) -> str:
        """Name of the device, with the threads of a CPU."""
        if self.device != "cpu":
            return self.device_name
        return f"{self.device_name}, {self.threads} thread{'s' * (self.threads != 1)}"

    def hours(self, seconds: float) -> str:
        """Return the charge for this many seconds of a worker, in core hours or GPU hours."""
        if self.device == "cpu":
            return f"{seconds * self.threads / 3600:,.1f} core hours"
        return f"{seconds / 3600:,.1f} GPU hours"


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status: 0, or 2 on a `UserError`."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        workers, folder, overrides = parse(arguments)
        rows = measured(folder)
        machines = dict.fromkeys(machine_of(row) for row in rows)
        groups = grouped(grid(overrides), {machine.device for machine in machines})
        if not groups:
            raise UserError(
                f"No row of {folder} was measured on a device that these cells ask for."
            )
    except explain.MISTAKES as error:
        return explain.report(error)
    for machine in machines:
        if its := [group for group in groups if group.device == machine.device]:
            here = [row for row in rows if machine_of(row) == machine]
            print(f"### {machine.title}, {len(here)} rows of {folder}\n")
            print(plan(its, machine, here, workers), end="\n\n")
            if machine.device == "cpu":
                print(load_note(here), end="\n\n")
    return 0


def parse(arguments: list[str]) -> tuple[int, str, list[str]]:
    """Return the number of workers, the folder of the rows, and the overrides.

    Raises:
        UserError: If ``workers`` is not a number from 1 to 99999, or there is no sweep to read.
    """
    given = {"workers": "1", "from": ""}
    overrides = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in given:
            given[key] = value
        else:
            overrides.append(argument)
    if not given["workers"].isdecimal() or not 0 < int(given["workers"]) < 100_000:
        raise UserError(
            f"workers={given['workers']} is invalid: it should be a number from 1 to 99999."
        )
    overrides = overrides_of(overrides)
    of_sweep = [o.partition("=")[2] for o in overrides if o.startswith("results_dir=")]
    return int(given["workers"]), given["from"] or (of_sweep or ["results"])[-1], overrides


def measured(folder: str) -> list[Row]:
    """Return the finished single-process rows with measured evaluation throughput.

    Raises:
        UserError: If there are none.
    """
    with suppress(UserError):  # its message would name results_dir
        finished = [row for row in done(read(folder)[0]) if row["processes"] == 1]
        if rows := [
            row for row in finished if phase_throughput([row], "evaluate", "examples_per_s")
        ]:
            return rows
    raise UserError(
        f"There are no finished runs under {folder}/runs to plan from that one process made: run a cell "
        "of each kind, name a folder with from=DIR, or run the sweep with dry_run=true, which times a "
        "few steps here."
    )


def machine_of(row: Row) -> Machine:
    """Return the machine that a row was measured on."""
    return Machine(row["device"], row["device_name"], row["threads"])


def plan(groups: Sequence[Group], machine: Machine, rows: Sequence[Row], workers: int) -> str:
    """Return the cost of cells on workers of one kind, as Markdown; ``rows`` are of that kind."""
    cells = [group for group in groups if not group.batch_size]
    trials = [group for group in groups if group.batch_size]
    every, todo = (sum(getattr(each, of) for each in cells) for of in ("total", "left"))
    said = f"{every} cell{'s' * (every > 1)}, of which {todo} are to be run"
    if trials:
        said += f" after {number_of(trials)} that find their options"
    said += "; python -m bench.status tells of the others."
    if not todo:
        return said
    found = [(group, estimate(group.facts, rows)) for group in groups if group.left]
    known = [(group, times) for group, times in found if times]
    shared = set.intersection(*(set(group.overrides) for group in groups))
    lines = [
        [
            " ".join(o for o in group.label if o not in shared) or "all",
            str(group.left),
            *told(times),
        ]
        for group, times in found
    ]
    parts = [markdown(["cells", "number", "time of one", "fastest to slowest row", "from"], lines)]
    if known:
        parts.append(totals(known, machine, workers))
    if unknown := [group for group, times in found if not times]:
        asked = " ".join(unknown[0].overrides)
        parts.append(
            f"Nothing is said of {number_of(unknown)}, of whose learner, data set "
            f"and backbone there is no row: run one of each, or `python -m bench {asked} dry_run=true`, "
            "which times a few steps."
        )
    return "\n\n".join([said, *parts])


def load_note(rows: Sequence[Row]) -> str:
    """Return a note on the load of the machine while rows were measured, and its correction."""
    shares = [idle_share(row) for row in rows]
    return (
        f"Times are those on an idle machine: rows had {min(shares):.0%} to {max(shares):.0%} of the "
        "processor time that they asked for while they trained, and are reckoned with as much less."
    )


def told(found: Estimate | None) -> list[str]:
    """Return the last columns of a group's line: time of a cell, its range, and their source."""
    if not found:
        return [ABSENT, ABSENT, "no row"]
    low, high = (duration(found.times[i].seconds) for i in (0, -1))
    count = len(found.times)
    spread = f"{low} to {high}" if low != high else ABSENT
    source = f"{count} row{'s' * (count > 1)}"
    source += f" of other {', '.join(found.differing)}" if found.differing else ""
    return [duration(found.middle.seconds), spread, source]


def number_of(groups: Sequence[Group]) -> str:
    """Return how many trials and cells of groups are left to run, in words."""
    trials = sum(group.left for group in groups if group.batch_size)
    cells = sum(group.left for group in groups if not group.batch_size)
    return " and ".join(
        f"{count} {word}{'s' * (count > 1)}"
        for count, word in ((trials, "trial"), (cells, "cell"))
        if count
    )


Known = Sequence[tuple[Group, Estimate]]


def rounds(known: Known, pick: Callable[[Estimate], Times]) -> list[list[float]]:
    """Return the seconds of each job with an estimate, in sequential rounds: trials, then cells."""
    trials: dict[int, list[float]] = {}
    cells: list[float] = []
    for group, each in known:
        ended = group.total - group.left  # may be within the first round
        for n in range(ended, group.total):
            place = cells
            if group.batch_size:
                place = trials.setdefault(n // group.batch_size - ended // group.batch_size, [])
            place.append(pick(each).seconds)
    return [*trials.values(), cells]


def totals(known: Known, machine: Machine, workers: int) -> str:
    """Return hours, energy and wall time of the cells and trials with an estimate, as a note."""
    low, middle, high = (
        rounds(known, pick)
        for pick in (lambda e: e.times[0], lambda e: e.middle, lambda e: e.times[-1])
    )

    def ranged(text: Callable[[list[list[float]]], str]) -> str:
        return text(middle) + (f" ({text(low)} to {text(high)})" if text(low) != text(high) else "")

    guessed = sum(group.left for group, each in known if each.differing)
    said = f"{number_of([group for group, _ in known])}, {guessed} of which by rows of other settings: "
    said += (hours := ranged(lambda jobs: machine.hours(sum(chain.from_iterable(jobs)))))
    joules = [each.middle.joules for group, each in known for _ in range(group.left)]
    if measured := [each for each in joules if each is not None]:
        of = "" if len(measured) == len(joules) else f" of {len(measured)} of them"
        said += f", {number(sum(measured) / 3.6e6)} kWh{of} by the GPU alone"
    wall = ranged(lambda jobs: duration(wall_seconds(jobs, workers)))
    longest = duration(max(chain.from_iterable(middle)))
    note = (
        f"{said}; on {workers} worker{'s' * (workers > 1)} {wall}, the longest one {longest}. A worker "
        "takes the next of the list when it is free. The start of a process is not in it."
    )
    if len(middle) > 1:
        note += (
            " Trials come in rounds, each of which begins when the one before has ended; they are "
            "reckoned with the options that the learner comes with, and to their end, though some are "
            "stopped."
        )
    extremes = " In brackets: all as in their fastest and as in their slowest row."
    return note + extremes * ("(" in hours + wall)


if __name__ == "__main__":
    sys.exit(run_command(main))
