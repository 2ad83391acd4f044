"""Published cells: selection, whether they can be run here, and how long they take."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from bench.core.atomic import atomic_write
from bench.core.errors import UserError
from bench.engine.train import steps_of
from bench.report.claims import Claim, published
from bench.runs.store import Store
from bench.sweep.status import checked, config_of

if TYPE_CHECKING:  # importing torch takes seconds; a user error should be reported without it
    from bench.runs.cell import Cell

LEAST_SECONDS_PER_IMAGE = 0.0002
"""Lower bound of the training time per image here, so that long cells need not be forecast first."""


class Times(NamedTuple):
    """Durations of a run in seconds: its training, and its validations and test."""

    training: float
    evaluation: float


@dataclass
class Published:
    """A published cell that can be run here.

    ``names`` are those of its runs, by seed; ``trainings`` are digests of their trainings (see
    `bench.engine.training_cache`), which other cells may share; ``steps`` is the number of outer
    steps of one training. ``least`` is a lower bound of the seconds of a training, ``forecast`` the
    forecast durations, if known.
    """

    claim: Claim
    overrides: list[str]
    names: dict[int, str]
    trainings: dict[int, str]
    steps: int
    least: float
    forecast: Times | None = None

    @property
    def times(self) -> Times:
        """The forecast, or a lower bound without one."""
        return self.forecast or Times(self.least, 0.0)

    def checked(self, seed: int) -> "Cell":
        """Return the cell with a seed, ready to run; raise UserError."""
        return checked([*self.overrides, f"seed={seed}"])


def chosen(only: str) -> list[Claim]:
    """Return the claims of a data set, a learner or an experiment; all if ``only`` is empty.

    ``only`` are the first words of an experiment's name, or those after the data set: for
    paper/omniglot_maml_5w1s it may be omniglot, omniglot_maml, maml, or the full name.

    Raises:
        UserError: No published cell matches.
    """
    claims = published()[0]
    only = only.removeprefix("paper/")
    found = [
        claim for claim in claims if any(f"{name}_".startswith(f"{only}_") for name in names(claim))
    ]
    if only and not found:
        known = {claim.dataset for claim in claims}
        known |= {names(claim)[1].rpartition("_")[0] for claim in claims}
        raise UserError(
            f"only={only} names no published cell: it should be one of {', '.join(sorted(known))}, or "
            "an experiment such as omniglot_maml_5w1s."
        )
    return found or claims


def names(claim: Claim) -> tuple[str, str]:
    """Return the name of a claim's experiment, with and without its data set."""
    name = claim.experiment.removeprefix("paper/")
    return name, name.removeprefix(f"{claim.dataset}_")


def runnable(
    claims: Sequence[Claim], options: Sequence[str], seeds: Sequence[int]
) -> tuple[list[Published], dict[str, str]]:
    """Return the cells of claims and, by name of each unavailable data set, the reason.

    Raises:
        UserError: A cell is invalid.
    """
    from bench.datasets.io.cache import DataDirs
    from bench.runs import cell as cells
    from bench.runs.cell import training_digest

    found, away = [], {}
    for claim in tqdm(claims, "checking", unit="cell", leave=False, disable=None):
        if claim.dataset in away:
            continue
        overrides = [f"experiment={claim.experiment}", *options]
        config = config_of(overrides)
        folders = DataDirs.of(config.data_root, config.cache_dir)
        try:
            dataset = cells.load(folders, config.dataset.model_dump_json())
        except UserError as mistake:
            away[claim.dataset] = str(mistake)
            continue
        cell = cells.check(config, dataset)
        runs = {seed: with_seed(cell, seed) for seed in seeds}
        steps = steps_of(config.train, cell.train_setting)
        least = config.train.examples * LEAST_SECONDS_PER_IMAGE
        names = {seed: run.name for seed, run in runs.items()}
        trainings = {seed: training_digest(run) for seed, run in runs.items()}
        found.append(Published(claim, overrides, names, trainings, steps, least))
    return found, away


def with_seed(cell: "Cell", seed: int) -> "Cell":
    """Return the same cell with another seed."""
    from bench.runs.cell import name_of

    config = cell.config.model_copy(update={"seed": seed})
    return replace(cell, config=config, name=name_of(config, cell.dataset, cell.device.type))


def forecast_of(store: Store, cell: Published) -> Times:
    """Return the seconds of a run, from a stored forecast on this kind of machine or a new one."""
    import torch

    from bench.engine.device import describe
    from bench.sweep.forecast import forecast

    seed = min(cell.names)
    ready = cell.checked(seed)
    threads = ready.config.threads or torch.get_num_threads()
    key = f"{cell.names[seed]} on {describe(ready.device)} with {threads} threads"
    path = store.root / "forecasts.json"
    known: dict[str, list[float]] = {}
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
    if key not in known:
        print(f"forecasting {cell.claim.experiment}", flush=True)
        times = forecast(ready)
        known[key] = [times["training"], times["validation"] + times["test"]]
        atomic_write(path, json.dumps(known, indent=1) + "\n")
    return Times(*known[key])
