"""Execution of a checked cell: train, select by validation, test once, measure speed, store."""

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import yaml
from torch import Tensor
from tqdm import tqdm

from bench.core.atomic import Content
from bench.core.errors import PeerLostError, RunFailedError, printable
from bench.core.signals import Interrupt, handle_signals, is_worker
from bench.engine import device as devices
from bench.engine.evaluate import depends_on_query_order, evaluate
from bench.engine.throughput import measure
from bench.engine.train import Training
from bench.engine.training_cache import TrainingCache
from bench.loggers import Log
from bench.runs import model, records
from bench.runs.cell import Cell, build_components, build_learner, training_digest
from bench.runs.checkpoint import Checkpointer
from bench.runs.probe import probe
from bench.runs.protocol import card
from bench.tasks.base import MOST, TaskSource

_log = logging.getLogger(__name__)


def run(cell: Cell) -> dict[str, Any]:
    """Train, select by validation, test once, measure speed and store; return the record.

    Without training images, the untrained learner is tested.

    Raises:
        RunFailedError: The cell cannot be finished, see `fail`.
        StorageError: The results cannot be written.
    """
    with Log(cell.config, cell.name, cell.world.is_main) as log:
        return _run(cell, log)


def _run(cell: Cell, log: Log) -> dict[str, Any]:
    config, device = cell.config, cell.device
    begun = time.monotonic()
    learner, loop, val_source, test_source, eval_batch_size = build_components(cell)
    kept = (
        TrainingCache(cell.store.trainings / training_digest(cell))
        if cell.shares_training
        else None
    )
    training = Training(loop, config.validation.times, kept)
    with handle_signals() as interrupt:
        begun -= train(
            cell,
            training,
            val_source if config.train.examples else test_source,
            eval_batch_size,
            interrupt,
            begun,
            lambda: log.validation(training.history),
        )

    if best := training.best:
        learner.load_state_dict(training.best_state)
    tested = evaluate(learner, test_source, config.test.episodes, eval_batch_size, cell.world)
    if not all(each.isfinite().all() for each in tested.values()):
        raise RunFailedError(
            "a prediction of a test episode is NaN or infinite; a lower inner lr may help"
        )
    domain = cell.dataset.domain
    score, ci95 = domain.interval(tested)
    unsolved = int(tested["unsolved"].sum())
    if unsolved and cell.world.is_main:
        _log.warning(
            "%s: %d of %d test tasks were not solved: the optimality conditions of its solver do not "
            "hold, so that their score is not that of the method.",
            *(cell.name, unsolved, config.test.episodes),
        )
    speed: list[dict[str, Any]] = []
    if config.throughput.seconds:
        speed = measure(
            learner,
            config.train,
            loop.source,
            test_source,
            eval_batch_size,
            device,
            config.precision,
            config.throughput.seconds,
            cell.world,
        )
    record = card(cell, learner) | {
        "status": "done",
        "reason": None,
        "score": score,
        "ci95": ci95,
        **domain.summary(tested),
        **({} if learner.unsolved is None else {"unsolved_tasks": unsolved}),
        "episodes": config.test.episodes,
        "episodes_digest": test_source.digest(config.test.episodes),
        "selected_episode": best.episodes if best else 0,
        "val_score": best.val_score if best else None,
        "train_episodes": loop.step * config.train.meta_batch,
        "train_seconds": training.seconds,
        "train_process_seconds": training.process_seconds,
        "elapsed_seconds": time.monotonic() - begun,
        "throughput": speed,
    }
    if cell.world.is_main:
        extra: dict[str, Content] = {
            **model.files(cell, learner, loop.source),
            f"{domain.unit}.csv": domain.table(tested, test_source).to_csv(index=False),
        }
        extra |= domain.files(learner, test_source, tested)
        if domain.probes_runs:
            probed = pd.DataFrame(probe(cell, learner.state_dict(), config.test.episodes))
            possible = probed["score"].map(domain.metric.contains) & (probed["ci95"] < MOST)
            extra["probe.csv"] = probed[possible].to_csv(index=False)
        if history := [each.asdict() for each in training.history]:
            extra["history.csv"] = pd.DataFrame(history).to_csv(index=False)
        cell.store.write(cell.name, files(cell, record) | extra)
        log.result(record)
    cell.world.any_rank(False)  # the others wait while the main process measures and writes
    return record


def fail(cell: Cell, reason: str) -> dict[str, Any]:
    """Store that a cell failed and why, which is a result as well; return the record."""
    reason = printable(reason)
    if len(reason) > records.REASON_LETTERS:
        reason = f"{reason[: records.REASON_LETTERS]} ... ({len(reason):,} letters)"
    learner = build_learner(cell.config, cell.dataset, cell.train_setting)
    record = card(cell, learner) | {"status": "failed", "reason": reason}
    cell.store.write(cell.name, files(cell, record))
    return record


def train(
    cell: Cell,
    training: Training,
    source: TaskSource,
    eval_batch_size: int,
    interrupt: Interrupt,
    begun: float,
    validated: Callable[[], object] = lambda: None,
) -> float:
    """Train to the end, resuming from the checkpoint of an interrupted run of this cell.

    Signals are deferred until everything is saved. ``validated`` is called after each validation,
    and its exceptions end the training. ``begun`` is when this process began the cell.

    Returns:
        The seconds that earlier processes spent on the cell, up to their last checkpoint.

    Raises:
        RunFailedError: The training cannot be finished.
    """
    learner, world = training.loop.learner, cell.world
    metric = training.loop.source.domain.metric
    if depends_on_query_order(learner, source):
        raise RunFailedError(
            "its predictions depend on the places of the queries, which come class by class"
        )
    checkpointer = Checkpointer(cell, training, begun)
    checkpointer.resume()

    def validate() -> Tensor:
        count = cell.config.validation.episodes
        return evaluate(learner, source, count, eval_batch_size, world)["score"]

    with interrupt.deferred(), progress_bar(cell, training) as bar:
        try:
            for found in training.run(
                validate, lambda: devices.synchronize(cell.device), interrupt.requested
            ):
                if found:
                    bar.update()
                    score = f"{found.episodes} episodes, val {metric.text(found.val_score)}"
                    bar.set_postfix_str(score)
                    if bar.disable and world.is_main:  # plain lines, as other cells print too
                        count = f"validation {len(training.history)} of {len(training.ends)}"
                        print(f"{cell.name}: {count}, {score}", file=sys.stderr)
                    validated()
                stopping = world.any_rank(interrupt.requested())
                ended = len(training.history) == len(training.ends)  # the test may take long
                due = stopping or checkpointer.should_save()
                if ended or (due and not training.repeating):  # a replay cannot be resumed
                    checkpointer.save()
                if stopping:
                    interrupt.request()
                    interrupt.raise_pending()
        except PeerLostError:
            checkpointer.save()
            raise
    return checkpointer.elapsed_before


def progress_bar(cell: Cell, training: Training) -> Any:
    """Return a bar that counts validations, shown only on a terminal that one cell has to itself."""
    return tqdm(
        total=len(training.ends),
        initial=len(training.history),
        desc=cell.name,
        unit="validation",
        # None disables it if the output is not a terminal
        disable=True if is_worker() or not cell.world.is_main else None,
    )


def files(cell: Cell, record: dict[str, Any]) -> dict[str, Content]:
    """Return the files that every run writes, finished or failed."""
    return {
        "config.yaml": yaml.safe_dump(cell.config.stored(), sort_keys=False),
        "record.json": json.dumps(records.check(record), indent=1) + "\n",
    }
