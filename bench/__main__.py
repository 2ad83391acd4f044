"""``python -m bench``: run one cell, or with ``-m`` a sweep of cells."""

import hashlib
import os
import sys
import traceback
from contextlib import nullcontext
from typing import Any

from bench import process

process.tune()  # before torch is imported

import hydra
from omegaconf import DictConfig

from bench import interrupt, until, usage, workers
from bench.interrupt import Dismissed, Interrupted, ended, listening
from bench.mistake import Failed, Lost, Mistake, Unkept, in_a_line
from bench.world import here, joined


@hydra.main(version_base="1.3", config_path=str(usage.CONF), config_name="config")
def main(cfg: DictConfig) -> dict[str, Any]:
    """Run the cell that the configuration describes, unless it is finished or another process does."""
    process.tune()  # in a worker, nothing did
    if interrupt.asked():
        return {"status": "interrupted"}
    try:
        if interrupt.at_work():
            workers.check_folder()
        cell = check(cfg)
        claim = cell.store.claim(cell.name) if here().first else nullcontext(False)
        # in the jobs of a cluster, nothing else listens
        with listening(), claim as mine:
            if not here().from_first(lambda: mine):
                print(f"{cell.name} is being run by another process", flush=True)
                return {"status": "running", "cell": cell.name}
            return run(cell)
    except Mistake as mistake:
        if interrupt.at_work():  # the sweep tells
            raise
        sys.exit(told(mistake))  # nor could the next cells be run or kept
    except Interrupted:
        if not interrupt.asked():
            raise
        return {"status": "interrupted"}


def run(cell: Any) -> dict[str, Any]:
    """Run a checked cell, or say why not; returns its record."""
    from bench import running

    if before := here().from_first(cell.standing):
        if before["status"] == "done":
            print(f"{cell.name} is already finished (overwrite=true runs it again)", flush=True)
        else:
            reason = before["reason"]
            print(
                f"{cell.name} failed before: {reason} (retry_failed=true runs it again)", flush=True
            )
        return before
    if cell.config.dry_run:
        return {"status": "forecast", "cell": cell.name, "seconds": foretold(cell)}
    tune = cell.config.tune
    if tune and tune.trial:
        from bench import tuning

        return tuning.attempt(cell)
    if tune and not cell.config.tuned:
        raise Mistake("tune=optuna is a sweep by itself: leave hydra.mode and hydra/sweeper alone.")
    try:
        record = running.run(cell)
        accuracy, ci95 = record["accuracy"], record["ci95"]
        print(f"{cell.name} is finished: {accuracy:.1f} ± {ci95:.1f} %", flush=True)
        return record
    except Unkept:
        raise
    except (Lost, Interrupted):
        if not (blamed := here().blamed()):
            raise
        reason = blamed
    except Failed as failed:
        reason = str(failed)
    except Dismissed:
        raise
    except (Exception, SystemExit) as error:  # of the learner's code or ours: the other cells go on
        traceback.print_exc()
        reason = in_a_line(error)
    here().blame(reason)
    if not here().first:
        sys.exit(1)
    print(f"{cell.name} failed: {reason}", file=sys.stderr)
    with listening() as signals, signals.held():  # other processes end, and torchrun then all
        record = running.fail(cell, reason)
    if here().size > 1:
        sys.exit(1)  # the others may not have failed, and wait for this one
    return record


def check(cfg: DictConfig) -> Any:
    """The checked cell of a configuration; raises Mistake, in all processes where one finds any."""
    cell: Any = None
    facts: tuple[Any, ...] = ()
    mistake: Mistake | None = None
    world = here()
    for turn in (world.local == 0, world.local != 0):  # on each machine, one prepares the data
        if turn:
            try:
                cell = _checked(cfg)
                facts = alike(cell)
            except Mistake as found:
                mistake = found
        world.any(False)
    all_checked = world.each((facts, mistake))
    if mistake := next((found for _, found in all_checked if found), None):
        raise mistake
    said = zip(*(facts for facts, _ in all_checked), strict=True)
    for (what, needed), fact in zip(ALIKE, said, strict=False):
        if len(set(fact)) > 1:
            raise Mistake(f"The processes would not {what}: they need the same {needed}.")
    return cell


ALIKE = (
    ("run the same cell", "data, options and device"),
    ("run the same code", "version of this suite, of torch and of other packages"),
    ("begin with the same parameters", "kind of processor"),
)
"""What processes that train a cell together have to do alike, and what they need for it."""


def alike(cell: Any) -> tuple[Any, ...]:
    """By what the processes know that they do so; nothing where there is one."""
    if here().size == 1:
        return ()
    from bench import protocol, tensors
    from bench.cell import build_learner

    learner = build_learner(cell.config, cell.dataset, cell.train_shape.ways)
    parameters = hashlib.sha256(tensors.to_bytes(learner.state_dict())).hexdigest()
    return cell.name, protocol.maker(cell.config), parameters


def _checked(cfg: DictConfig) -> Any:
    from bench import config
    from bench.store import Store

    read = config.read(cfg)
    if here().first:
        Store(read.results_dir).check_writable()
    if read.logger:
        from bench import loggers

        loggers.check(read.logger)
    from bench import cell as cells  # imports torch, which a mistake need not wait for

    cell = cells.check(read)
    from bench import floors

    floors.of(cell)  # raises Mistake where there is none
    if not read.tune:
        return cell
    from bench import tuning  # imports optuna, which only this needs

    return tuning.check(cell)


def foretold(cell: Any) -> float:
    """Print how long a cell would take; gives the seconds."""
    from bench.forecast import forecast
    from bench.report.tables import duration

    times = forecast(cell)
    if (tune := cell.config.tune) and tune.trial:
        left = tune.trials - int(tune.trial.rpartition("/")[2])  # those before it have ended
        times = {f"{of} of {left} trials": left * times[of] for of in ("training", "validation")}
    steps = ", ".join(f"{name} {duration(seconds)}" for name, seconds in times.items())
    print(f"{cell.name} would take {duration(sum(times.values()))} ({steps})", flush=True)
    return sum(times.values())


def told(mistake: Mistake) -> int:
    """Print a mistake to standard error; gives the exit status for it."""
    world = here()
    lost = isinstance(mistake, Lost)
    if world.first or lost:
        blamed = world.blamed() if world.first and lost else None
        print(f"error: {blamed or mistake}", file=sys.stderr)
    else:  # the first process finds the same, or that this one has ended
        world.blame(str(mistake))
    return mistake.status


def command(arguments: list[str]) -> int:
    """Run the command, whose arguments Hydra reads itself; returns its exit status."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print at length
    with joined():
        try:
            if usage.wanted(arguments):
                return usage.show(arguments)
            usage.check_choices(arguments)
            sys.argv[1:] = usage.ordered(sys.argv[1:])
            main()
        except Mistake as mistake:
            return told(mistake)
        except usage.HYDRA_MISTAKES as error:
            return told(usage.explain(error))
        except Exception as error:
            if not (died := workers.death(error)):
                raise
            # a signal to all processes ends workers that are still being started
            return died.status if workers.ending() else told(died)
        finally:
            until.over()
            workers.dismiss()  # where the end of the sweep was not reached
    return 0


if __name__ == "__main__":
    sys.exit(ended(command))
