"""What a cell tells TensorBoard, Weights & Biases or MLflow, where that is asked for.

These are copies to look at: what counts is in the store. A logger that fails is told of once and
left alone; no cell fails by it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from bench.config import Code, Config, check_options
from bench.mistake import Lost, Mistake, Unkept

if TYPE_CHECKING:
    from bench.train import Checkpoint

PATIENCE = 60.0
"""Seconds that a logger may take for one call, as when no server answers, before it is left alone."""


class Logger(Protocol):
    """A run of a logger: made with a folder for its files, the cell's name, its ``options`` by name,
    and ``after`` how many training episodes it goes on, 0 for a cell that begins."""

    def validation(self, episodes: int, found: Mapping[str, float]) -> None:
        """Log what a validation found after so many training episodes."""

    def result(self, found: Mapping[str, float]) -> None:
        """Log what the test and the measurement of speed found."""

    def close(self, failed: bool) -> None:
        """Write what is still to be written, of a cell that failed or not.

        One that has neither failed nor a result may go on later.
        """


def check(logger: Code | None) -> None:
    """Raises Mistake where the packages of a logger are missing, or an option is not possible."""
    if not logger:
        return
    if logger.target.startswith(f"{__name__}."):
        try:
            import_module(logger.target.rpartition(".")[0])
        except ModuleNotFoundError as error:
            raise Mistake(
                f"logger={logger.name} needs the package {error.name}: pip install "
                f"'fewshot-bench[{logger.name}]', or in a clone uv sync --extra {logger.name}."
            ) from None
    check_options(logger, "logger")


class Log:
    """The log of one cell, which does nothing without a logger, and ends with the ``with`` it is in."""

    def __init__(self, config: Config, cell: str, first: bool = True) -> None:
        """``first`` is whether this process is the one that writes."""
        self._config, self._cell = config, cell
        self._logger: Logger | None = None
        self._silent = config.logger is None or not first

    def validation(self, history: Sequence["Checkpoint"]) -> None:
        """Log the last validation of a training."""
        found = history[-1].asdict()
        after = history[-2].episodes if len(history) > 1 else 0
        self._do(after, lambda logger: logger.validation(found.pop("episodes"), found))

    def result(self, record: Mapping[str, Any]) -> None:
        """Log the record of a finished cell."""
        found = {f"test_{key}": record[key] for key in ("accuracy", "ci95", "loss")}
        found |= {f"{each['phase']}_tasks_per_s": each["tasks_per_s"]
                  for each in record["throughput"]}  # fmt: skip
        self._do(record["train_episodes"], lambda logger: logger.result(found))

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """End the log; interruptions, and what the same command goes on after, are no failures."""
        failed = isinstance(error, Exception) and not isinstance(error, Lost | Unkept)
        if self._logger:
            self._do(0, lambda logger: logger.close(failed), last=True)

    def _do(self, after: int, work: Callable[[Logger], None], last: bool = False) -> None:
        """Let the logger do something, for so long as there is `PATIENCE`.

        One that failed is asked for the ``last`` thing alone, and one that does not answer for nothing.
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
        return make(folder, self._cell, options, after, **self._config.logger.options)


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options by their full names, such as ``train.rate``; lists as they are written."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = prefix + key
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            found[name] = value if plain else str(value)
    return found
