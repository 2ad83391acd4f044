"""Benchmark of few-shot learners on the same episodes."""

from typing import TYPE_CHECKING, Any

import algorithms

if TYPE_CHECKING:
    from pathlib import Path

    from bench.runs.load import FewShot

DISTRIBUTION = "fewshot-bench"
"""The distribution that this package is of: others are called bench, too."""

if getattr(algorithms, "DISTRIBUTION", None) != DISTRIBUTION:
    raise ImportError(
        f"Another package called algorithms hides that of {DISTRIBUTION}, in "
        f"{algorithms.__file__}: start from another folder, uninstall it, or install "
        f"{DISTRIBUTION} into an environment of its own.",
        name=__name__,
    )


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


def load(run: "str | Path", data_root: str | None = None) -> "FewShot":
    """Return the trained learner of a stored run, to be fitted to a few labelled images.

    Its data set is not needed: ``load("results/runs/protonet-...").fit(images, labels)`` is followed
    by ``.predict(others)``, see `bench.runs.load.FewShot`. The weights of a pretrained, frozen
    backbone are looked for here and in ``data_root``.

    Raises:
        UserError: The run cannot be read, or does not label images.
    """
    from bench.runs.load import load as load_run

    return load_run(run, data_root)
