"""``python -m bench``: run one cell, or with ``-m`` a sweep of cells."""

import os
import sys
from contextlib import nullcontext
from typing import Any

import hydra
from omegaconf import DictConfig

from bench.cli import help
from bench.config import explain
from bench.config.plugins import CONF
from bench.core import process, signals, until
from bench.core.errors import UserError
from bench.core.signals import Interrupted, handle_signals
from bench.engine.distributed import init_distributed, process_group
from bench.sweep import workers
from bench.sweep.job import check, report_error, run


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> dict[str, Any]:
    """Run the configured cell, unless it is finished or another process runs it."""
    process.configure()  # workers do not pass through bench.__main__
    if signals.stop_requested():
        return {"status": "interrupted"}
    try:
        if signals.is_worker():
            workers.check_folder()
        cell = check(cfg)
        claim = cell.store.claim(cell.name) if process_group().is_main else nullcontext(False)
        # cluster jobs have no other signal handler
        with handle_signals(), claim as mine:
            if not process_group().broadcast(lambda: mine):
                print(f"{cell.name} is being run by another process", flush=True)
                return {"status": "running", "cell": cell.name}
            return run(cell)
    except UserError as mistake:
        if signals.is_worker():  # the sweep reports it
            raise
        sys.exit(report_error(mistake))  # the next cells would fail likewise
    except Interrupted:
        if not signals.stop_requested():
            raise
        return {"status": "interrupted"}


def command(arguments: list[str]) -> int:
    """Run the command and return its exit status; Hydra parses the arguments itself."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing a long message
    with init_distributed():
        try:
            if help.wanted(arguments):
                return help.show(arguments)
            explain.check_choices(arguments)
            sys.argv[1:] = help.ordered(sys.argv[1:])
            main()
        except UserError as mistake:
            return report_error(mistake)
        except explain.HYDRA_MISTAKES as error:
            return report_error(explain.explain(error))
        except Exception as error:
            if not (died := workers.explain_crash(error)):
                raise
            # a signal to the process group ends workers that are still starting
            return died.status if workers.stopping() else report_error(died)
        finally:
            until.over()
            workers.shutdown()  # in case the sweep did not reach its end
    return 0
