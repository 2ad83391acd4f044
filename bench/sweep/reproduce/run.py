"""A campaign: published cells are run until nothing is left or the time is up."""

from dataclasses import replace
from typing import NamedTuple

from bench.core.errors import UserError
from bench.core.signals import RESUMABLE, Interrupted
from bench.report import claimed, read
from bench.report.claims import Check, table
from bench.report.tables import duration
from bench.runs.store import Store
from bench.sweep.reproduce.campaign import SEEDS, Campaign
from bench.sweep.reproduce.published import Published, chosen, runnable

OPTIONS = ("threads", "results_dir", "data_root", "cache_dir")
"""Options passed on to each cell."""
TOLD = 3
"""How many of the next runs are printed."""


class Given(NamedTuple):
    """The request; ``seeds`` None: as many as the duration of a cell allows."""

    until: float | None
    only: str
    seeds: list[int] | None
    options: dict[str, str]


def reproduce(given: Given) -> int:
    """Run the published cells, in order of value per hour; return the exit status."""
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
    from bench.engine.training_cache import TrainingCache
    from bench.sweep.job import run  # imports torch, which takes seconds

    left = duration(campaign.remaining(cell, seed))
    print(f"{cell.claim.experiment}, seed {seed}: {left} to go", flush=True)
    try:
        others = [each for each in campaign.sharing(cell) if each is not cell]
        ready = replace(cell.checked(seed), shares_training=bool(others))
        with campaign.store.claim(ready.name) as mine:
            if mine and not any(campaign.store.running(each.names[seed]) for each in others):
                run(ready)
                if others and not any(campaign.lacks(each, seed) for each in others):
                    TrainingCache(campaign.store.trainings / cell.trainings[seed]).drop()
                return
        print(f"{ready.name}, or its training, is being run by another process", flush=True)
    except UserError as mistake:
        if type(mistake) is not UserError:  # errors such as a full disk affect all cells
            raise
        print(f"{cell.claim.experiment}, seed {seed}, is passed over: {mistake}", flush=True)
    campaign.passed.add(cell.names[seed])


def judge(campaign: Campaign) -> list[Check]:
    """Update the verdicts from the measurements and return the checked claims."""
    try:
        found = claimed(*read(campaign.store.root))
    except UserError:  # no cell has finished yet
        return []
    found = [each for each in found if each.measured]
    campaign.verdicts = {each.claim.experiment: each.decided for each in found}
    return found


def conclude(campaign: Campaign) -> bool:
    """Print what was measured, what failed and what is next; return whether any runs failed."""
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
    """Print the next runs, and the time that they and all the others would take."""
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
    """Return the remaining time of a run as text, as far as it is known."""
    least = "" if cell.forecast is not None else "not forecast yet, at least "
    return least + duration(campaign.remaining(cell, seed))
