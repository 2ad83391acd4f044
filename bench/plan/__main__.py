"""``python -m bench.plan``: what a sweep would take on so many workers, from measured rows."""

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

from bench import usage
from bench.interrupt import ended
from bench.mistake import Mistake
from bench.plan import Estimate, Times, estimate, idle_share
from bench.plan.groups import Group, grouped
from bench.plan.schedule import Job, simulate
from bench.report import read
from bench.report.rows import Row, done, rate
from bench.report.tables import ABSENT, duration, markdown, number
from bench.status import overrides_of
from bench.sweep import grid

USAGE = """\
Usage: python -m bench.plan [workers=N] [from=DIR] [OVERRIDE...]

Tells what a sweep, given by the overrides of its command such as algo=maml,protonet seed=0,1, would take
on N workers (1 when not given): hours, energy where it was measured, and wall time, also where workers
fail. Without overrides but results_dir=DIR, it is the last sweep in DIR/sweeps (DIR is 'results').
Times are those of the finished runs in the results folder that from=DIR names (that of the sweep when
not given), one plan for each kind of machine among them. A cell whose very setting was not measured
takes the nearest rows of its learner, data set and backbone, scaled by the images that it trains on and
evaluates; which facts differ is told. Cells that are finished are not counted, nor trials of tune=optuna
that have ended. Nothing is run."""

MTBF = {"a month": 30 * 86400.0, "a week": 7 * 86400.0, "a day": 86400.0, "an hour": 3600.0}
"""Mean seconds between two failures of a worker that are tried."""
RESTART_SECONDS = 60.0
"""How long a worker that failed is assumed to be away."""
LUCKS = 20
"""Simulations with failures, which are averaged."""


class Machine(NamedTuple):
    """What rows were measured on."""

    device: str
    device_name: str
    threads: int

    @property
    def title(self) -> str:
        if self.device != "cpu":
            return self.device_name
        return f"{self.device_name}, {self.threads} thread{'s' * (self.threads != 1)}"

    def hours(self, seconds: float) -> str:
        """What so many seconds of a worker are charged as."""
        if self.device == "cpu":
            return f"{seconds * self.threads / 3600:,.1f} core hours"
        return f"{seconds / 3600:,.1f} GPU hours"


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status: 0, or 2 for a user's mistake."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        workers, folder, overrides = parse(arguments)
        rows = measured(folder)
        machines = dict.fromkeys(machine_of(row) for row in rows)
        groups = grouped(grid(overrides), {machine.device for machine in machines})
        if not groups:
            raise Mistake(f"No row of {folder} was measured on a device that these cells ask for.")
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    except usage.HYDRA_MISTAKES as error:
        print(f"error: {usage.explain(error)}", file=sys.stderr)
        return 2
    for machine in machines:
        if its := [group for group in groups if group.device == machine.device]:
            here = [row for row in rows if machine_of(row) == machine]
            print(f"### {machine.title}, {len(here)} rows of {folder}\n")
            print(plan(its, machine, here, workers), end="\n\n")
            if machine.device == "cpu":
                print(load_note(here), end="\n\n")
    return 0


def parse(arguments: list[str]) -> tuple[int, str, list[str]]:
    """The number of workers, the folder of the rows, and the overrides; raises Mistake."""
    given = {"workers": "1", "from": ""}
    overrides = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in given:
            given[key] = value
        else:
            overrides.append(argument)
    if not given["workers"].isdecimal() or not 0 < int(given["workers"]) < 100_000:
        raise Mistake(
            f"workers={given['workers']} is not possible: it should be a number from 1 to 99999."
        )
    overrides = overrides_of(overrides)
    of_sweep = [o.partition("=")[2] for o in overrides if o.startswith("results_dir=")]
    return int(given["workers"]), given["from"] or (of_sweep or ["results"])[-1], overrides


def measured(folder: str) -> list[Row]:
    """The finished rows of one process that tell how fast they evaluate; raises Mistake."""
    with suppress(Mistake):  # which would name results_dir
        finished = [row for row in done(read(folder)[0]) if row.get("processes", 1) == 1]
        if rows := [row for row in finished if rate([row], "evaluate", "images_per_s")]:
            return rows
    raise Mistake(
        f"There are no finished runs under {folder}/runs to plan from that one process made: run a cell "
        "of each kind, name a folder with from=DIR, or run the sweep with dry_run=true, which times a "
        "few steps here."
    )


def machine_of(row: Row) -> Machine:
    return Machine(row["device"], row["device_name"], row["threads"])


def plan(groups: Sequence[Group], machine: Machine, rows: Sequence[Row], workers: int) -> str:
    """What the cells take on workers of one kind, as Markdown; ``rows`` were measured on it."""
    cells = [group for group in groups if not group.at_once]
    trials = [group for group in groups if group.at_once]
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
        parts += [totals(known, machine, workers), failing(known, workers)]
    if unknown := [group for group, times in found if not times]:
        asked = " ".join(unknown[0].overrides)
        parts.append(
            f"Nothing is said of {number_of(unknown)}, of whose learner, data set "
            f"and backbone there is no row: run one of each, or `python -m bench {asked} dry_run=true`, "
            "which times a few steps."
        )
    return "\n\n".join([said, *parts])


def load_note(rows: Sequence[Row]) -> str:
    """Say how busy the machine was when the rows were measured, and what was made of that."""
    shares = [idle_share(row) for row in rows if "train_process_seconds" in row]
    if not shares:
        return "These rows do not tell how busy the machine was: times are as they took them."
    return (
        f"Times are those on an idle machine: rows had {min(shares):.0%} to {max(shares):.0%} of the "
        "processor time that they asked for while they trained, and are reckoned with as much less."
    )


def told(found: Estimate | None) -> list[str]:
    """The last columns of a group's line: the time of a cell, its range, and where they come from."""
    if not found:
        return [ABSENT, ABSENT, "no row"]
    low, high = (duration(sum(found.times[i].job)) for i in (0, -1))
    count = len(found.times)
    spread = f"{low} to {high}" if low != high else ABSENT
    source = f"{count} row{'s' * (count > 1)}"
    source += f" of other {', '.join(found.differing)}" if found.differing else ""
    return [duration(sum(found.middle.job)), spread, source]


def number_of(groups: Sequence[Group]) -> str:
    """How many trials and cells are left of groups, in words."""
    trials = sum(group.left for group in groups if group.at_once)
    cells = sum(group.left for group in groups if not group.at_once)
    return " and ".join(
        f"{count} {word}{'s' * (count > 1)}"
        for count, word in ((trials, "trial"), (cells, "cell"))
        if count
    )


Known = Sequence[tuple[Group, Estimate]]


def rounds(known: Known, pick: Callable[[Estimate], Times]) -> list[list[Job]]:
    """The jobs of what rows speak of, in rounds that follow each other: of trials, then of the cells."""
    trials: dict[int, list[Job]] = {}
    cells: list[Job] = []
    for group, each in known:
        ended = group.total - group.left  # within the first round, perhaps
        for n in range(ended, group.total):
            place = cells
            if group.at_once:
                place = trials.setdefault(n // group.at_once - ended // group.at_once, [])
            place.append(pick(each).job)
    return [*trials.values(), cells]


def totals(known: Known, machine: Machine, workers: int) -> str:
    """Hours, energy and wall time of the cells and trials that rows speak of."""
    low, middle, high = (
        rounds(known, pick)
        for pick in (lambda e: e.times[0], lambda e: e.middle, lambda e: e.times[-1])
    )

    def ranged(text: Callable[[list[list[Job]]], str]) -> str:
        return text(middle) + (f" ({text(low)} to {text(high)})" if text(low) != text(high) else "")

    guessed = sum(group.left for group, each in known if each.differing)
    said = f"{number_of([group for group, _ in known])}, {guessed} of which by rows of other settings: "
    said += (hours := ranged(lambda jobs: machine.hours(sum(map(sum, chain(*jobs))))))
    joules = [each.middle.joules for group, each in known for _ in range(group.left)]
    if measured := [each for each in joules if each is not None]:
        of = "" if len(measured) == len(joules) else f" of {len(measured)} of them"
        said += f", {number(sum(measured) / 3.6e6)} kWh{of} by the GPU alone"
    wall = ranged(lambda jobs: duration(simulate(jobs, workers).wall))
    longest = duration(max(map(sum, chain(*middle))))
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


def failing(known: Known, workers: int) -> str:
    """What the same takes where workers fail, as a table with a note."""
    from bench.progress import SAVE_SECONDS
    from bench.train import STRETCH_SECONDS

    jobs = rounds(known, lambda each: each.middle)
    pause = max(each.middle.pause for _, each in known)
    whole, save_every = simulate(jobs, workers).wall, SAVE_SECONDS + STRETCH_SECONDS + pause
    lines = []
    for name, seconds in MTBF.items():
        tried = [
            simulate(jobs, workers, 1 / seconds, save_every, RESTART_SECONDS, luck)
            for luck in range(LUCKS)
        ]
        wall, failures, lost = (statistics.fmean(each) for each in zip(*tried, strict=True))
        if math.isinf(wall):
            lines.append([name, ABSENT, ABSENT, "a cell does not end"])
        else:
            lines.append([name, f"{failures:,.2f}", duration(lost), f"{wall / whole - 1:+.1%}"])
    note = (
        f"Means of {LUCKS} simulations: a worker that failed is away for {RESTART_SECONDS:.0f} s and "
        f"then goes on from where training was saved, every {save_every:.0f} s, in which "
        f"{duration(pause)} are for a step and a validation (the longest of these cells, at their "
        "mean); a test begins anew."
    )
    table = markdown(["a worker fails once in", "failures", "work lost", "wall time"], lines)
    return f"{table}\n\n{note}"


if __name__ == "__main__":
    sys.exit(ended(main))
