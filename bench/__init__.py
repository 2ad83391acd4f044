"""Benchmark of few-shot learners on the same episodes."""

from typing import TYPE_CHECKING, Any

import algorithms

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from bench.runs.estimator import Classifier
    from bench.runs.load import FewShot
    from bench.runs.result import Result

__all__ = ["Classifier", "load", "run", "sweep"]

DISTRIBUTION = "fewshot-bench"
"""The distribution that this package is of: others are called bench, too."""

if getattr(algorithms, "DISTRIBUTION", None) != DISTRIBUTION:
    raise ImportError(
        f"Another package called algorithms hides that of {DISTRIBUTION}, in "
        f"{algorithms.__file__}: start from another folder, uninstall it, or install "
        f"{DISTRIBUTION} into an environment of its own.",
        name=__name__,
    )


def run(*overrides: str, **options: Any) -> "Result":
    """Train and evaluate the learner of one cell; the numbers are those of the command line.

    The overrides are those of the command, and options are overrides, too:
    ``run("algo=maml", "train.lr=0.01", shots=5)`` or ``run(algo="maml", **{"train.lr": 0.01}, shots=5)``.
    A learner that is not in conf/ is given by its class:
    ``run("algo.name=mine", "algo.target=my_module.MyLearner")``. A cell that is already stored is
    not run again.

    Raises:
        UserError: The configuration is wrong.
        RunFailedError: The cell cannot be finished, or could not before.
    """
    # imported late, so that commands which only read results start fast
    from bench.config.compose import configuration, overrides_from
    from bench.config.explain import explained
    from bench.config.schema import from_hydra
    from bench.core.errors import RunFailedError
    from bench.runs.cell import check
    from bench.runs.result import Result
    from bench.runs.run import run as run_cell

    with explained():
        cell = check(from_hydra(configuration([*overrides, *overrides_from(options)])))
    record = cell.existing_record() or run_cell(cell)
    if record["status"] == "failed":
        raise RunFailedError(f"{record['reason']} (retry_failed=true tries again)")
    return Result(record, cell.store.runs / cell.name)


def sweep(*overrides: str, **options: Any) -> "pd.DataFrame":
    """Run all cells of a grid in this process and return their records, one row a cell.

    The overrides are those of ``python -m bench -m``, such as ``"shots=1,5"``; lists of options
    are swept over: ``sweep(algo=["maml", "protonet"], shots=[1, 5], dataset="glyphs")``. All cells
    are checked before the first one is run. Stored cells are not run again, and one that fails is
    a row that says why; `bench.report` makes the tables and figures of all.

    Raises:
        UserError: The configuration of a cell is wrong.
    """
    import pandas as pd

    from bench.config.compose import overrides_from
    from bench.config.explain import explained
    from bench.sweep import job
    from bench.sweep.callback import checked, grid
    from bench.sweep.status import with_swept

    overrides = (*overrides, *overrides_from(options, swept=True))
    with explained():
        cells = [checked(each) for each in grid(with_swept(list(overrides)))]
    return pd.DataFrame([job.run(cell) for cell in cells])


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


def __getattr__(name: str) -> Any:
    """Import the names of this package that take long, when they are first used."""
    if name == "Classifier":
        from bench.runs.estimator import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
