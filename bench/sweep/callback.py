"""Hydra callback: validates all cells before the first one runs, and writes the report at the end."""

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

from bench.config.compose import configuration
from bench.config.explain import HYDRA_MISTAKES, explain
from bench.core import signals, until
from bench.core.errors import UserError
from bench.engine.distributed import process_group
from bench.runs.store import Store
from bench.sweep import workers

if TYPE_CHECKING:  # importing torch takes seconds; a user error should be reported without it
    from bench.config.schema import Config
    from bench.runs.cell import Cell


class Sweep(Callback):
    """Hydra callback at the start and end of a run or sweep, and before and after each of its cells.

    The per-cell hooks may run on a copy of this object in another process, whose state is lost: the
    outcome of cells is read from the store.
    """

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], int | None] = {}
        """Results folder and name of each cell; the value is when the record that it replaces was
        written."""
        self.tuned: list[list[str]] = []
        """Overrides of cells whose options, and so their names, are not yet known."""
        self.floors: dict[str, Config] = {}
        """Configurations of the cells' floors, by name."""
        self.foretold: list[float] = []
        self.workers: workers.Workers | None = None
        """State shared with the worker processes that end with the sweep, if there are any."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Start the clock of the command's time limit."""
        with deciding():
            if process_group().is_main:  # the other processes end with it
                until.begin(config.until)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Validate every cell of a grid before the first one runs, so that errors are found early."""
        self.on_run_start(config)
        with deciding():
            workers.check(config.hydra)
            every = grid([*swept(config), *config.hydra.overrides.task])
            hide = None if process_group().is_main else True  # None shows it only on a terminal
            # checking a thousand cells takes minutes
            for overrides in tqdm(
                every, "checking", unit="cell", leave=False, disable=hide, delay=3
            ):
                cell = checked(overrides)
                self._add_floors(cell)
                if config.tune:
                    self.tuned.append(overrides)
                else:
                    self._count(
                        cell.config.results_dir, cell.name, again=not cell.existing_record()
                    )
            self.workers = workers.start(config.hydra)
            _ = config.hydra.sweep.dir  # resolves the time once: all processes use the same folder
            OmegaConf.set_cache(
                config, process_group().broadcast(lambda: OmegaConf.get_cache(config))
            )

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Mark the process of the cell as a worker, unless it is that of the sweep."""
        if self.workers:
            workers.on_worker_start(self.workers)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Remember the cell and its forecast."""
        signals.exit_if_orphaned()
        if job_return.status is not JobStatus.COMPLETED:
            return
        record = job_return.return_value
        if record["status"] not in ("interrupted", "trial"):
            again = record["status"] == "running" and config.overwrite
            self._count(config.results_dir, record["cell"], again=again)
        self.foretold += [record["seconds"]] if record["status"] == "forecast" else []

    def on_run_end(self, config: DictConfig, **given: Any) -> None:
        """Conclude as at the end of a sweep, unless the cell raised an error, which Hydra re-raises."""
        if given["job_return"].status is JobStatus.COMPLETED:
            with deciding():
                self._add_floors(checked(list(config.hydra.overrides.task)))
            self.on_multirun_end(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Rebuild tables and figures from all stored cells and print their paths; not after a signal."""
        if self.workers:
            workers.shutdown()
        if process_group().is_main:
            with deciding():
                self._conclude(config)

    def _conclude(self, config: DictConfig) -> None:
        from bench.report import command as report
        from bench.report.tables import duration

        if config.dry_run:
            from bench.sweep.forecast import load_note

            count, total = len(self.foretold), duration(sum(self.foretold))
            if count:  # otherwise only other processes have the forecasts
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
            from bench.sweep import tuning  # imports optuna, which nothing else needs

            finals = [tuning.final_cell(overrides, checked) for overrides in self.tuned]
            records = [cell.store.record(cell.name) if cell else None for cell in finals]
        if any(records):
            from bench.runs import floors

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
            sys.exit(signals.RESUMABLE)
        if not made:
            sys.exit(1)

    def _add_floors(self, cell: "Cell") -> None:
        """Remember the floors of a cell, which are run at the end; raise UserError."""
        from bench.runs import floors

        self.floors |= {floor.name: floor.config for floor in floors.of(cell)}

    def _count(self, results_dir: str, cell: str, again: bool) -> None:
        """Register a cell; the existing record of a cell that is run ``again`` does not count."""
        before = Store(results_dir).written_at(cell) if again else None
        self.cells.setdefault((results_dir, cell), before)


@contextmanager
def deciding() -> Iterator[None]:
    """End the command on any exception raised within; Hydra only warns of exceptions in callbacks."""
    from bench.sweep.job import report_error

    try:
        yield
    except UserError as mistake:
        sys.exit(report_error(mistake))
    except HYDRA_MISTAKES as error:
        sys.exit(report_error(explain(error)))
    except BrokenPipeError:
        sys.exit(signals.on_broken_pipe())
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def checked(overrides: list[str]) -> Any:
    """Return the checked cell that overrides describe; raise UserError and Hydra's exceptions."""
    from bench.sweep.job import check

    return check(configuration(overrides))


def swept(config: DictConfig) -> list[str]:
    """Return the overrides that an experiment sweeps over itself; they precede the command's own."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return [f"{key}={value}" for key, value in params.items()]


def grid(overrides: list[str]) -> list[list[str]]:
    """Return the cells that Hydra's basic sweeper expands from overrides such as ``shots=1,5``."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = OverridesParser.create().parse_overrides(overrides)
    return [cell for batch in BasicSweeper.split_arguments(parsed, None) for cell in batch]
