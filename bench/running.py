"""A checked cell is run: trained, chosen by validation, tested once, timed and stored."""

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

from bench import device as devices
from bench import records, tensors
from bench.cell import Cell, build_learner, parts
from bench.data.episodes import EpisodeSampler
from bench.evaluate import Scores, depends_on_places, evaluate
from bench.files import Content
from bench.interrupt import Interrupt, at_work, listening
from bench.kept import Kept, training_of
from bench.loggers import Log
from bench.mistake import Failed, Lost, printable
from bench.progress import Progress
from bench.protocol import card
from bench.stats import mean_ci95
from bench.throughput import measure
from bench.train import Training

_log = logging.getLogger(__name__)


def run(cell: Cell) -> dict[str, Any]:
    """Train, choose by validation, test once, measure speed, store; returns the record.

    Without training images, the learner is tested as it is made.
    Raises Failed when that cannot be done, see `fail`, and Unkept when it cannot be stored.
    """
    with Log(cell.config, cell.name, cell.world.first) as log:
        return _run(cell, log)


def _run(cell: Cell, log: Log) -> dict[str, Any]:
    config, device = cell.config, cell.device
    begun = time.monotonic()
    learner, loop, val_sampler, test_sampler, at_once = parts(cell)
    kept = Kept(cell.store.trainings / training_of(cell)) if cell.shares_training else None
    training = Training(loop, config.validation.times, kept)
    with listening() as interrupt:
        begun -= train(
            cell,
            training,
            val_sampler,
            at_once,
            interrupt,
            begun,
            lambda: log.validation(training.history),
        )

    if best := training.best:
        learner.load_state_dict(training.best_state)
    tested = evaluate(learner, test_sampler, config.test.episodes, at_once, cell.world)
    if not tested.loss.isfinite().all():
        raise Failed("a prediction of a test episode is no number; a lower inner rate may help")
    accuracy, ci95 = mean_ci95(tested.accuracy)
    unsolved = int(tested.unsolved.sum())
    if unsolved and cell.world.first:
        _log.warning(
            "%s: %d of %d test tasks were not solved: the optimality conditions of its solver do not "
            "hold, so that their accuracy is not that of the method.",
            *(cell.name, unsolved, config.test.episodes),
        )
    speed: list[dict[str, Any]] = []
    if config.throughput.seconds:
        speed = measure(
            learner,
            config.train,
            loop.sampler,
            test_sampler,
            at_once,
            device,
            config.precision,
            config.throughput.seconds,
            cell.world,
        )
    record = card(cell, learner) | {
        "status": "done",
        "reason": None,
        "accuracy": accuracy,
        "ci95": ci95,
        "loss": tested.loss.mean().item(),
        "brier": tested.brier.mean().item(),
        "ece": tested.pooled_ece,
        **({} if learner.unsolved is None else {"unsolved_tasks": unsolved}),
        "episodes": config.test.episodes,
        "episodes_digest": test_sampler.digest(config.test.episodes),
        "selected_episode": best.episodes if best else 0,
        "val_accuracy": best.val_accuracy if best else None,
        "train_episodes": loop.step * config.train.meta_batch,
        "train_seconds": training.seconds,
        "train_process_seconds": training.process_seconds,
        "elapsed_seconds": time.monotonic() - begun,
        "throughput": speed,
    }
    if cell.world.first:
        extra: dict[str, Content] = {
            "checkpoint.pt": tensors.to_bytes(learner.state_dict()),
            "episodes.csv": numbered(tested, test_sampler).to_csv(index=False),
        }
        if history := [each.asdict() for each in training.history]:
            extra["history.csv"] = pd.DataFrame(history).to_csv(index=False)
        cell.store.write(cell.name, files(cell, record) | extra)
        log.result(record)
    cell.world.any(False)  # the others do nothing while the first measures and writes
    return record


def fail(cell: Cell, reason: str) -> dict[str, Any]:
    """Store that a cell failed, and why: a result too; returns the record."""
    reason = printable(reason)
    if len(reason) > records.REASON_LETTERS:
        reason = f"{reason[: records.REASON_LETTERS]} ... ({len(reason):,} letters)"
    learner = build_learner(cell.config, cell.dataset, cell.train_shape.ways)
    record = card(cell, learner) | {"status": "failed", "reason": reason}
    cell.store.write(cell.name, files(cell, record))
    return record


def train(
    cell: Cell,
    training: Training,
    sampler: EpisodeSampler,
    at_once: int,
    interrupt: Interrupt,
    begun: float,
    validated: Callable[[], object] = lambda: None,
) -> float:
    """Train to the end, from where an interrupted run of this cell stood; raises Failed.

    Returns the seconds that earlier processes spent on the cell, up to when they last saved it; this
    one has ``begun`` then. Signals are held back until all is saved. ``validated`` is called
    after each validation, and what it raises ends the training.
    """
    learner, world = training.loop.learner, cell.world
    if depends_on_places(learner, sampler):
        raise Failed(
            "its predictions depend on the places of the queries, which come class by class"
        )
    progress = Progress(cell, training, begun)
    progress.resume()

    def validate() -> Tensor:
        return evaluate(learner, sampler, cell.config.validation.episodes, at_once, world).accuracy

    with interrupt.held(), progress_bar(cell, training) as bar:
        try:
            for found in training.run(
                validate, lambda: devices.synchronize(cell.device), interrupt.requested
            ):
                if found:
                    bar.update()
                    score = f"{found.episodes} episodes, val {found.val_accuracy:.1f} %"
                    bar.set_postfix_str(score)
                    if bar.disable and world.first:  # a line among those of other cells
                        count = f"validation {len(training.history)} of {len(training.ends)}"
                        print(f"{cell.name}: {count}, {score}", file=sys.stderr)
                    validated()
                stopping = world.any(interrupt.requested())
                ended = len(training.history) == len(training.ends)  # the test may be long
                due = stopping or progress.due()
                if ended or (due and not training.repeating):  # no training could go on from there
                    progress.save()
                if stopping:
                    interrupt.request()
                    interrupt.obey()
        except Lost:
            progress.save()
            raise
    return progress.earlier


def progress_bar(cell: Cell, training: Training) -> Any:
    """A bar that counts validations, where the output is a terminal that one cell has to itself."""
    return tqdm(
        total=len(training.ends),
        initial=len(training.history),
        desc=cell.name,
        unit="validation",
        # None: where the output is no terminal
        disable=True if at_work() or not cell.world.first else None,
    )


def numbered(tested: Scores, sampler: EpisodeSampler) -> pd.DataFrame:
    """One row a test episode: how it went, its classes and their groups by number.

    A turned class has the number of the unturned one, and a group that of its first class.
    """
    count = len(tested.accuracy)
    classes = sampler.classes(0, count)
    return pd.DataFrame(
        {
            "episode": range(count),
            "accuracy": tested.accuracy,
            "loss": tested.loss,
            "ece": tested.ece,
            "brier": tested.brier,
            "classes": _joined(sampler.pool.unturned[classes]),
            "groups": _joined(sampler.pool.grouped[classes]),
        }
    )


def _joined(numbers: Tensor) -> list[str]:
    """A text of each row."""
    return [" ".join(map(str, row)) for row in numbers.tolist()]


def files(cell: Cell, record: dict[str, Any]) -> dict[str, Content]:
    """The files that every run leaves, finished or failed."""
    return {
        "config.yaml": yaml.safe_dump(cell.config.stored(), sort_keys=False),
        "record.json": json.dumps(records.check(record), indent=1) + "\n",
    }
