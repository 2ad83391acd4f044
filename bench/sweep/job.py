"""One job of the command: check and run a cell, in this process or a worker."""

import hashlib
import sys
import traceback
from typing import Any

from omegaconf import DictConfig

from bench.core.errors import PeerLostError, RunFailedError, StorageError, UserError, one_line
from bench.core.signals import Dismissed, Interrupted, handle_signals
from bench.engine.distributed import process_group


def run(cell: Any) -> dict[str, Any]:
    """Run a checked cell, or report why not; return its record."""
    from bench.runs import records
    from bench.runs import run as running

    before: dict[str, Any] | None = process_group().broadcast(cell.existing_record)
    if before:
        if before["status"] == "done":
            print(f"{cell.name} is already finished (overwrite=true runs it again)", flush=True)
        else:
            reason = before["reason"]
            print(
                f"{cell.name} failed before: {reason} (retry_failed=true runs it again)", flush=True
            )
        return before
    if cell.config.dry_run:
        return {"status": "forecast", "cell": cell.name, "seconds": print_forecast(cell)}
    tune = cell.config.tune
    if tune and tune.trial:
        from bench.sweep import tuning

        return tuning.run_trial(cell)
    if tune and not cell.config.tuned:
        raise UserError(
            "tune=optuna is a sweep by itself: leave hydra.mode and hydra/sweeper alone."
        )
    try:
        record = running.run(cell)
        print(f"{cell.name} is finished: {records.score_text(record)}", flush=True)
        return record
    except StorageError:
        raise
    except (PeerLostError, Interrupted):
        if not (failure := process_group().failure()):
            raise
        reason = failure
    except RunFailedError as failed:
        reason = str(failed)
    except Dismissed:
        raise
    except (Exception, SystemExit) as error:  # the learner's or ours: other cells continue
        traceback.print_exc()
        reason = one_line(error)
    process_group().report_failure(reason)
    if not process_group().is_main:
        # torchrun kills all when one ends with an error: the main process stores the row first, and
        # ends with the status. On GPUs it may wait for this one forever, and must be killed.
        sys.exit(int(cell.device.type != "cpu"))
    print(f"{cell.name} failed: {reason}", file=sys.stderr)
    with handle_signals() as signals, signals.deferred():
        record = running.fail(cell, reason)
    if process_group().size > 1:
        sys.exit(1)  # the others may not have failed and still wait for this one
    return record


def check(cfg: DictConfig) -> Any:
    """Return the checked cell of a configuration; raise UserError in all processes if any finds one."""
    cell: Any = None
    facts: tuple[Any, ...] = ()
    mistake: UserError | None = None
    world = process_group()
    for turn in (world.local == 0, world.local != 0):  # one per machine prepares the data
        if turn:
            try:
                cell = _checked(cfg)
                facts = consistency_facts(cell)
            except UserError as found:
                mistake = found
        world.any_rank(False)
    all_checked = world.all_gather((facts, mistake))
    if mistake := next((found for _, found in all_checked if found), None):
        raise mistake
    said = zip(*(facts for facts, _ in all_checked), strict=True)
    for (what, needed), fact in zip(MUST_AGREE, said, strict=False):
        if len(set(fact)) > 1:
            raise UserError(f"The processes would not {what}: they need the same {needed}.")
    return cell


MUST_AGREE = (
    ("run the same cell", "data, options and device"),
    ("run the same code", "version of this suite, of torch and of other packages"),
    ("begin with the same parameters", "kind of processor"),
)
"""What processes that train a cell together have to agree on, and what they need for it."""


def consistency_facts(cell: Any) -> tuple[Any, ...]:
    """Return the facts that must agree between processes; empty if there is only one."""
    if process_group().size == 1:
        return ()
    from bench.core import serialization
    from bench.runs import protocol
    from bench.runs.cell import build_learner

    learner = build_learner(cell.config, cell.dataset, cell.train_setting)
    parameters = hashlib.sha256(serialization.to_bytes(learner.state_dict())).hexdigest()
    return cell.name, protocol.code_fingerprint(cell.config), parameters


def _checked(cfg: DictConfig) -> Any:
    from bench.config import schema
    from bench.runs.store import Store

    read = schema.from_hydra(cfg)
    if process_group().is_main:
        Store(read.results_dir).check_writable()
    if read.logger:
        from bench import loggers

        loggers.check(read.logger)
    from bench.runs import cell as cells  # imports torch, which takes seconds

    cell = cells.check(read)
    from bench.runs import floors

    floors.of(cell)  # raises UserError if one is invalid
    if not read.tune:
        return cell
    from bench.sweep import tuning  # imports optuna, which nothing else needs

    return tuning.check(cell)


def print_forecast(cell: Any) -> float:
    """Print how long a cell would take and return the seconds."""
    from bench.report.tables import duration
    from bench.sweep.forecast import forecast

    times = forecast(cell)
    if (tune := cell.config.tune) and tune.trial:
        left = tune.n_trials - int(tune.trial.rpartition("/")[2])  # earlier trials have ended
        times = {f"{of} of {left} trials": left * times[of] for of in ("training", "validation")}
    steps = ", ".join(f"{name} {duration(seconds)}" for name, seconds in times.items())
    print(f"{cell.name} would take {duration(sum(times.values()))} ({steps})", flush=True)
    return sum(times.values())


def report_error(mistake: UserError) -> int:
    """Print an error to standard error and return its exit status."""
    world = process_group()
    lost = isinstance(mistake, PeerLostError)
    if world.is_main or lost:
        failure = world.failure() if world.is_main and lost else None
        print(f"error: {failure or mistake}", file=sys.stderr)
    else:  # the main process finds the same error, or loses this peer
        world.report_failure(str(mistake))
    return mistake.status
