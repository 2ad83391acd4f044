"""What happens around cells: all are checked before the first one runs, then comes the report."""

import sys
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from bench.usage import HYDRA_MISTAKES, explain
from bench.world import here


class Sweep(Callback):
    """Called by Hydra at the start and end of a run or sweep, and after each of its cells."""

    def __init__(self) -> None:
        self.failed = False
        self.foretold: list[float] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check every cell of a grid, so that a mistake in the last one costs nothing."""
        from bench.__main__ import check_or_exit, told

        loader = GlobalHydra.instance().config_loader()
        for overrides in grid(list(config.hydra.overrides.task)):
            try:
                cell = loader.load_configuration("config", overrides, RunMode.RUN)
            except HYDRA_MISTAKES as error:  # Hydra would only warn of what a callback raises
                sys.exit(told(explain(error)))
            with open_dict(cell):
                del cell["hydra"]
            check_or_exit(cell)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Remember whether any cell failed, and what was foretold of it."""
        record = job_return.return_value
        self.failed |= record["status"] == "failed"
        self.foretold += [record["seconds"]] if record["status"] == "forecast" else []

    def on_run_end(self, config: DictConfig, **_: Any) -> None:
        """Rebuild tables and figures from all stored cells and say where they are."""
        from bench.report import __main__ as report
        from bench.report.tables import duration

        if not here().first:
            return
        if config.dry_run:
            count, total = len(self.foretold), duration(sum(self.foretold))
            print(f"In all {total} for {count} cells, one after the other; nothing was run.")
            return
        status = report.main([f"results_dir={config.results_dir}"])
        if self.failed or status:
            sys.exit(1)

    on_multirun_end = on_run_end


def grid(overrides: list[str]) -> list[list[str]]:
    """The cells that Hydra's basic sweeper makes of overrides such as ``shots=1,5``."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = OverridesParser.create().parse_overrides(overrides)
    return [cell for batch in BasicSweeper.split_arguments(parsed, None) for cell in batch]
