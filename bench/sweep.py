"""What happens around cells: all are checked before the first one runs, then comes the report."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from bench import interrupt, until, workers
from bench.compose import configuration
from bench.mistake import Mistake
from bench.store import Store
from bench.usage import HYDRA_MISTAKES, explain
from bench.world import here

if TYPE_CHECKING:  # torch takes seconds to load, which a mistake need not wait for
    from bench.cell import Cell
    from bench.config import Config


class Sweep(Callback):
    """Called by Hydra at the start and end of a run or sweep, and before and after each of its cells.

    Those two may happen in a copy of this in another process, of which nothing comes back: what
    became of cells is read from the store.
    """

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], int | None] = {}
        """Results folder and name of each cell; and when the record that it replaces was written."""
        self.tuned: list[list[str]] = []
        """Overrides of cells whose options, and so their names, are still to be found."""
        self.floors: dict[str, Config] = {}
        """The floors of the cells, by name."""
        self.foretold: list[float] = []
        self.workers: workers.Workers | None = None
        """What processes that run cells, and end with the sweep, know of it, where there are any."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Begin to count the time that the command has."""
        with deciding():
            if here().first:  # the others end with it
                until.begin(config.until)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check every cell of a grid, so that a mistake in the last one costs nothing."""
        self.on_run_start(config)
        with deciding():
            workers.check(config.hydra)
            every = grid([*swept(config), *config.hydra.overrides.task])
            hide = None if here().first else True  # None shows it in a terminal
            # a thousand cells take minutes
            for overrides in tqdm(
                every, "checking", unit="cell", leave=False, disable=hide, delay=3
            ):
                cell = checked(overrides)
                self._add_floors(cell)
                if config.tune:
                    self.tuned.append(overrides)
                else:
                    self._count(cell.config.results_dir, cell.name, again=not cell.standing())
            self.workers = workers.prepare(config.hydra)
            _ = config.hydra.sweep.dir  # asks the clock, once: all processes name the same folder
            OmegaConf.set_cache(config, here().from_first(lambda: OmegaConf.get_cache(config)))

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Make the process of the cell a worker, if it is not that of the sweep."""
        if self.workers:
            workers.begin(self.workers)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Remember the cell, and what was foretold of it."""
        interrupt.leave_if_orphaned()
        if job_return.status is not JobStatus.COMPLETED:
            return
        record = job_return.return_value
        if record["status"] not in ("interrupted", "trial"):
            again = record["status"] == "running" and config.overwrite
            self._count(config.results_dir, record["cell"], again=again)
        self.foretold += [record["seconds"]] if record["status"] == "forecast" else []

    def on_run_end(self, config: DictConfig, **given: Any) -> None:
        """As at the end of a sweep, unless the cell raised something, which Hydra then raises."""
        if given["job_return"].status is JobStatus.COMPLETED:
            with deciding():
                self._add_floors(checked(list(config.hydra.overrides.task)))
            self.on_multirun_end(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Rebuild tables and figures from all stored cells and say where they are; not after a signal."""
        if self.workers:
            workers.dismiss()
        if here().first:
            with deciding():
                self._conclude(config)

    def _conclude(self, config: DictConfig) -> None:
        from bench.report import __main__ as report
        from bench.report.tables import duration

        if config.dry_run:
            from bench.forecast import load_note

            count, total = len(self.foretold), duration(sum(self.foretold))
            if count:  # else other processes know
                cells = "1 cell" if count == 1 else f"{count} cells, one after the other"
                print(f"In all {total} for {cells}; nothing was run.")
                print(load_note())
            return
        records = [
            None if store.written_at(cell) == before else store.record(cell)
            for (folder, cell), before in self.cells.items()
            for store in [Store(folder)]
        ]
        if self.tuned:
            from bench import tuning  # imports optuna, which only this needs

            finals = [tuning.final(overrides, checked) for overrides in self.tuned]
            records = [cell.store.record(cell.name) if cell else None for cell in finals]
        if any(records):
            from bench import floors

            floors.run(self.floors.values())
        made = not any(records) or report.main([f"results_dir={config.results_dir}"]) == 0
        if (left := records.count(None)) > 0:
            one = left == 1
            print(
                f"{left} of {len(records)} cells {'is' if one else 'are'} not finished: python -m "
                f"bench.status tells more, and the same command goes on with {'it' if one else 'them'}."
            )
        if any(record and record["status"] == "failed" for record in records):
            sys.exit(1)
        if left:
            sys.exit(interrupt.RESUMABLE)
        if not made:
            sys.exit(1)

    def _add_floors(self, cell: "Cell") -> None:
        """Remember the floors of a cell, which are run at the end; raises Mistake."""
        from bench import floors

        self.floors |= {floor.name: floor.config for floor in floors.of(cell)}

    def _count(self, results_dir: str, cell: str, again: bool) -> None:
        """Reckon with a cell; what is stored of one that is run ``again`` does not count."""
        before = Store(results_dir).written_at(cell) if again else None
        self.cells.setdefault((results_dir, cell), before)


@contextmanager
def deciding() -> Iterator[None]:
    """What is raised within ends the command; Hydra would only warn of what a callback raises."""
    from bench.__main__ import told

    try:
        yield
    except Mistake as mistake:
        sys.exit(told(mistake))
    except HYDRA_MISTAKES as error:
        sys.exit(told(explain(error)))
    except BrokenPipeError:
        sys.exit(interrupt.unheard())
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def checked(overrides: list[str]) -> Any:
    """The checked cell that overrides describe; raises Mistake, and what Hydra raises."""
    from bench.__main__ import check

    return check(configuration(overrides))


def swept(config: DictConfig) -> list[str]:
    """The overrides that an experiment sweeps over by itself; they come before those of the command."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return [f"{key}={value}" for key, value in params.items()]


def grid(overrides: list[str]) -> list[list[str]]:
    """The cells that Hydra's basic sweeper makes of overrides such as ``shots=1,5``."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = OverridesParser.create().parse_overrides(overrides)
    return [cell for batch in BasicSweeper.split_arguments(parsed, None) for cell in batch]
