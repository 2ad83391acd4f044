"""Benchmark of few-shot learners on the same episodes."""

from typing import Any


def run(*overrides: str) -> dict[str, Any]:
    """Train and evaluate the learner of one cell, and return its record.

    The overrides are those of the command: ``run("algo=maml", "shots=5")``. A learner that is not in
    conf/ is given by its class: ``run("algo.name=mine", "algo.target=my_module.MyLearner")``. A
    cell that is already stored is not run again.

    Raises:
        UserError: The configuration is wrong.
        RunFailedError: The cell cannot be finished.
    """
    # imported late, so that commands which only read results start fast
    from bench.config.compose import configuration
    from bench.config.schema import from_hydra
    from bench.runs.cell import check
    from bench.runs.run import run as run_cell

    cell = check(from_hydra(configuration(list(overrides))))
    return cell.existing_record() or run_cell(cell)
