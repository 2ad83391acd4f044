"""The published cells: those that are asked for, which of them can be run here, how long that takes."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from bench.files import write_whole
from bench.mistake import Mistake
from bench.report.claims import Claim, published
from bench.status import checked, config_of
from bench.store import Store

if TYPE_CHECKING:  # torch takes seconds to load, which a mistake need not wait for
    from bench.cell import Cell

LEAST_SECONDS_PER_IMAGE = 0.0002
"""The least that training on an image takes here, so that long cells need not be forecast first."""


class Times(NamedTuple):
    """Seconds of a run: of its training, and of its validations and test."""

    training: float
    evaluation: float


@dataclass
class Published:
    """A published cell that can be run here.

    ``names`` are those of its runs, by seed, ``trainings`` digests of theirs (see `bench.kept`), which
    other cells may have, too; ``steps`` are those of one. ``least`` is a lower bound of the seconds of a
    training, ``forecast`` what is known of them.
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
        """The forecast, or a lower bound where there is none."""
        return self.forecast or Times(self.least, 0.0)

    def checked(self, seed: int) -> "Cell":
        """The cell with a seed, ready to run; raises Mistake."""
        return checked([*self.overrides, f"seed={seed}"])


def chosen(only: str) -> list[Claim]:
    """The claims of a data set, a learner or an experiment; all without a name. Raises Mistake.

    ``only`` are the first words of an experiment's name, or those after the data set: of
    paper/omniglot_maml_5w1s it may be omniglot, omniglot_maml, maml, or the whole.
    """
    claims = published()[0]
    only = only.removeprefix("paper/")
    found = [
        claim for claim in claims if any(f"{name}_".startswith(f"{only}_") for name in names(claim))
    ]
    if only and not found:
        known = {claim.dataset for claim in claims}
        known |= {names(claim)[1].rpartition("_")[0] for claim in claims}
        raise Mistake(
            f"only={only} names no published cell: it should be one of {', '.join(sorted(known))}, or "
            "an experiment such as omniglot_maml_5w1s."
        )
    return found or claims


def names(claim: Claim) -> tuple[str, str]:
    """The name of a claim's experiment, and the same without its data set."""
    name = claim.experiment.removeprefix("paper/")
    return name, name.removeprefix(f"{claim.dataset}_")


def runnable(
    claims: Sequence[Claim], options: Sequence[str], seeds: Sequence[int]
) -> tuple[list[Published], dict[str, str]]:
    """The cells of claims, and by name of a data set that is not here, why; raises Mistake."""
    from bench import cell as cells
    from bench.data.cache import Folders
    from bench.kept import training_of

    found, away = [], {}
    for claim in tqdm(claims, "checking", unit="cell", leave=False, disable=None):
        if claim.dataset in away:
            continue
        overrides = [f"experiment={claim.experiment}", *options]
        config = config_of(overrides)
        folders = Folders.of(config.data_root, config.cache_dir)
        try:
            dataset = cells.load(folders, config.dataset.model_dump_json())
        except Mistake as mistake:
            away[claim.dataset] = str(mistake)
            continue
        cell = cells.check(config, dataset)
        ways, shots, queries = cell.train_shape
        runs = {seed: with_seed(cell, seed) for seed in seeds}
        steps = -(-config.train.images // (config.train.meta_batch * ways * (shots + queries)))
        least = config.train.images * LEAST_SECONDS_PER_IMAGE
        names = {seed: run.name for seed, run in runs.items()}
        trainings = {seed: training_of(run) for seed, run in runs.items()}
        found.append(Published(claim, overrides, names, trainings, steps, least))
    return found, away


def with_seed(cell: "Cell", seed: int) -> "Cell":
    """The same cell with another seed."""
    from bench.cell import name_of

    config = cell.config.model_copy(update={"seed": seed})
    return replace(cell, config=config, name=name_of(config, cell.dataset, cell.device.type))


def forecast_of(store: Store, cell: Published) -> Times:
    """The seconds of a run, as they were forecast before on this kind of machine, or forecast now."""
    import torch

    from bench.device import describe
    from bench.forecast import forecast

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
        write_whole(path, json.dumps(known, indent=1) + "\n")
    return Times(*known[key])
