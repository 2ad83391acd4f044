"""A campaign: published cells are run until nothing is left or time is over."""

from dataclasses import replace
from typing import NamedTuple

from bench.interrupt import RESUMABLE, Interrupted
from bench.mistake import Mistake
from bench.report import claimed, read
from bench.report.claims import Check, table
from bench.report.tables import duration
from bench.reproduce.campaign import SEEDS, Campaign
from bench.reproduce.published import Published, chosen, runnable
from bench.store import Store

OPTIONS = ("threads", "results_dir", "data_root", "cache_dir")
"""What is handed on to each cell."""
TOLD = 3
"""How many of the next runs are told."""


class Given(NamedTuple):
    """What was asked for; ``seeds`` None: as many as the time of a cell allows."""

    until: float | None
    only: str
    seeds: list[int] | None
    options: dict[str, str]


def reproduce(given: Given) -> int:
    """Run the published cells, in order of their value an hour; returns the exit status."""
    claims = chosen(given.only)
    store = Store(given.options["results_dir"])
    store.check_writable()
    options = ["throughput.seconds=0", *(f"{key}={value}" for key, value in given.options.items())]
    cells, away = runnable(claims, options, given.seeds or list(SEEDS))
    for dataset, reason in away.items():
        print(f"Left out are the cells of {dataset}: {reason}")
    campaign = Campaign(store, cells, given.seeds)
    status = None
    try:
        judge(campaign)
        while run := campaign.next():
            carry_out(campaign, *run)
            judge(campaign)
    except Interrupted as interrupted:
        status = interrupted.status
    failed = conclude(campaign)
    if status is None:
        status = RESUMABLE if campaign.passed else int(failed)
    return status


def carry_out(campaign: Campaign, cell: Published, seed: int) -> None:
    """Run a published cell with a seed, unless it cannot be run now."""
    from bench.__main__ import run  # imports torch, which a mistake need not wait for
    from bench.kept import Kept

    left = duration(campaign.remaining(cell, seed))
    print(f"{cell.claim.experiment}, seed {seed}: {left} to go", flush=True)
    try:
        others = [each for each in campaign.sharing(cell) if each is not cell]
        ready = replace(cell.checked(seed), shares_training=bool(others))
        with campaign.store.claim(ready.name) as mine:
            if mine and not any(campaign.store.running(each.names[seed]) for each in others):
                run(ready)
                if others and not any(campaign.lacks(each, seed) for each in others):
                    Kept(campaign.store.trainings / cell.trainings[seed]).drop()
                return
        print(f"{ready.name}, or its training, is being run by another process", flush=True)
    except Mistake as mistake:
        if type(mistake) is not Mistake:  # a full disk is one for all cells
            raise
        print(f"{cell.claim.experiment}, seed {seed}, is passed over: {mistake}", flush=True)
    campaign.passed.add(cell.names[seed])


def judge(campaign: Campaign) -> list[Check]:
    """Look up what has been measured, and which verdicts there are."""
    try:
        found = claimed(*read(campaign.store.root))
    except Mistake:  # nothing has finished
        return []
    found = [each for each in found if each.measured]
    campaign.verdicts = {each.claim.experiment: each.decided for each in found}
    return found


def conclude(campaign: Campaign) -> bool:
    """Tell what was measured, what failed and what is next; returns whether any runs failed."""
    mine = {cell.claim.experiment for cell in campaign.cells}
    found = [each for each in judge(campaign) if each.claim.experiment in mine]
    if found:
        print(f"\n{table(found).markdown()}")
    failed = False
    for cell in campaign.cells:
        for seed in campaign.seeds(cell):
            record = campaign.store.written(cell.names[seed])
            if record and record["status"] == "failed":
                failed = True
                print(f"{cell.claim.experiment}, seed {seed}, failed: {record['reason']}")
    tell_next(campaign)
    return failed


def tell_next(campaign: Campaign) -> None:
    """Print what is next, and how long it and all the others would take."""
    runs = campaign.left()
    if not runs:
        print("\nNothing is left to be run.")
        return
    print(f"\n{len(runs)} runs are left. Next:")
    for cell, seed in runs[:TOLD]:
        begun = campaign.step(cell, seed)
        state = f", saved at step {begun:,} of {cell.steps:,}" if begun else ""
        print(f"  {cell.claim.experiment}, seed {seed}{state}: {time_left(campaign, cell, seed)}")
    known = [run for run in runs if run[0].forecast is not None]
    if known:
        total = duration(sum(campaign.remaining(*run) for run in known))
        print(f"{len(known)} of them would take {total} by forecast.")


def time_left(campaign: Campaign, cell: Published, seed: int) -> str:
    """How long a run would take, as far as that is known."""
    least = "" if cell.forecast is not None else "not forecast yet, at least "
    return least + duration(campaign.remaining(cell, seed))
