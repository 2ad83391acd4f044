"""Optional logging of a cell to TensorBoard, Weights & Biases or MLflow.

Logs are copies for viewing: the store is authoritative. A logger that fails is reported once and
then disabled; it never makes a cell fail.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from bench.config.schema import Component, Config, check_options
from bench.core.errors import PeerLostError, StorageError, UserError

if TYPE_CHECKING:
    from bench.engine.train import ValidationPoint

PATIENCE = 60.0
"""Timeout of one logger call in seconds, as when a server does not answer; the logger is then
disabled."""


class Logger(Protocol):
    """Interface of a logger's run.

    It is constructed with a folder for its files, the cell's name, its ``options`` by name, and
    ``after``: the number of training episodes from which it resumes, 0 for a new cell.
    """

    def validation(self, episodes: int, found: Mapping[str, float]) -> None:
        """Log the results ``found`` by a validation after ``episodes`` training episodes."""

    def result(self, found: Mapping[str, float]) -> None:
        """Log the results of the test and of the speed measurement."""

    def close(self, failed: bool) -> None:
        """Flush and close the log of a cell that failed or not.

        A cell with neither a failure nor a result may be resumed later.
        """


def check(logger: Component | None) -> None:
    """Raise UserError if the packages of a logger are missing, or an option is invalid."""
    if not logger:
        return
    if logger.target.startswith(f"{__name__}."):
        try:
            import_module(logger.target.rpartition(".")[0])
        except ModuleNotFoundError as error:
            raise UserError(
                f"logger={logger.name} needs the package {error.name}: pip install "
                f"'.[{logger.name}]' in a clone of this project."
            ) from None
    check_options(logger, "logger")


class Log:
    """The log of one cell, a context manager that does nothing without a logger."""

    def __init__(self, config: Config, cell: str, first: bool = True) -> None:
        """Prepare the log; only the process with ``first`` set, the main one, writes."""
        self._config, self._cell = config, cell
        self._logger: Logger | None = None
        self._silent = config.logger is None or not first

    def validation(self, history: Sequence["ValidationPoint"]) -> None:
        """Log the last validation of a training."""
        found = history[-1].asdict()
        after = history[-2].episodes if len(history) > 1 else 0
        self._do(after, lambda logger: logger.validation(found.pop("episodes"), found))

    def result(self, record: Mapping[str, Any]) -> None:
        """Log the record of a finished cell."""
        found = {f"test_{key}": record[key] for key in ("score", "ci95", "loss") if key in record}
        found |= {f"{each['phase']}_tasks_per_s": each["tasks_per_s"]
                  for each in record["throughput"]}  # fmt: skip
        self._do(record["train_episodes"], lambda logger: logger.result(found))

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close the log; interruptions and resumable errors do not count as failures."""
        failed = isinstance(error, Exception) and not isinstance(
            error, PeerLostError | StorageError
        )
        if self._logger:
            self._do(0, lambda logger: logger.close(failed), last=True)

    def _do(self, after: int, work: Callable[[Logger], None], last: bool = False) -> None:
        """Call the logger in a thread, for at most `PATIENCE` seconds.

        A logger that has failed gets only the ``last`` call, and one that does not answer gets
        none.
        """
        failed: list[BaseException] = []

        def done() -> None:
            try:
                if not self._logger:
                    self._logger = self._open(after)
                work(self._logger)
            except BaseException as error:  # such as SystemExit
                failed.append(error)

        if self._silent and not (last and self._logger):
            return
        thread = Thread(target=done, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if thread.is_alive():
            self._logger = None
        if (thread.is_alive() or failed) and not self._silent:
            self._silent = True
            said = str(failed[0]).strip().split("\n", 1)[0] if failed else "it does not answer"
            why = said or type(failed[0]).__name__
            assert self._config.logger
            told = f"{self._cell} is logged by {self._config.logger.name} no more: {why}"
            tqdm.write(told, sys.stderr)

    def _open(self, after: int) -> Logger:
        assert self._config.logger
        folder = Path(self._config.results_dir).resolve() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        make, options = self._config.logger.resolve(), flat(self._config.stored())
        result: Logger = make(folder, self._cell, options, after, **self._config.logger.options)
        return result


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return options by their full names, such as ``train.lr``; lists become strings."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = prefix + key
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            found[name] = value if plain else str(value)
    return found
