"""Tuning of options by trials before the final cell is tested, for ``tune=optuna``.

Each learner, data set and setting has a study. Its trials are trainings with options sampled from
the learner's search space, judged by validation episodes alone. The cells of the study, one per
seed, are then trained from scratch with the options of the best trial and tested once, like any
other. A study is stored in:

::

    results/studies/<study>/journal.log         all trials, by Optuna
                            runs/<trial>/       the checkpoint of an unfinished trial
"""

import json
import math
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.config.schema import Config, Range, Tune, option, with_options
from bench.core.errors import RunFailedError, StorageError, UserError, one_line
from bench.core.philox import key_of
from bench.core.signals import Dismissed, handle_signals
from bench.engine.train import Training
from bench.runs import cell as cells
from bench.runs import protocol
from bench.runs import run as running
from bench.runs.cell import Cell, build_components, digest_of, task_of
from bench.runs.store import Store

try:
    import optuna
    from optuna.samplers import TPESampler
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError:
    raise UserError(
        "tune=optuna needs a package that is not installed: pip install '.[tune]' in a clone of "
        "this project."
    ) from None

from bench.sweep.journal import JOURNAL, Direction, damaged, opened

optuna.logging.set_verbosity(optuna.logging.ERROR)

Overrides = list[str]
BUDGET = {"train.examples", "train.split"}
"""Options that are not a learner's own but part of the budget."""


def check(cell: Cell) -> Cell:
    """Return the cell for a tuning sweep; a trial gets its own name and store. Raise UserError."""
    config, tune = cell.config, cell.config.tune
    assert tune is not None
    if config.tuned:
        check_found(cell)
        return cell
    if tune.trial:
        study, _, number = tune.trial.partition("/")
        return replace(cell, name=f"{study}-trial{number}", store=_store(config, study))
    if cell.world.size > 1:
        raise UserError("tune=optuna has trials of one process each: start it without torchrun.")
    if config.train.split != "train":
        raise UserError("tune=optuna needs classes to validate on: leave train.split=train.")
    if not config.train.examples:
        raise UserError(f"{config.algo.name} is not trained, so there is nothing to tune.")
    if not tune.ranges:
        raise UserError(
            f"There is nothing to tune: conf/space/ has no {config.algo.name}. Give a range, such as "
            "'+tune.space.train.lr={low:0.0002,high:0.02,scale:log}'."
        )
    check_seed(config)
    for key, span in tune.ranges.items():
        _check_range(config, key, span)
    for end in ("low", "high"):
        values = {key: getattr(span, end) for key, span in tune.ranges.items()}
        try:
            cells.check(with_options(trial_config(config), values), cell.dataset)
        except UserError as mistake:
            raise UserError(f"An end of tune.space cannot be tried: {mistake}") from None
    return cell


def check_found(cell: Cell) -> None:
    """Raise UserError if ``tuned`` does not match the study's trials, as when it is given by hand."""
    config = cell.config
    assert config.tuned is not None
    name = config.tuned.study
    study = Study(name, [], replace(cell, store=_store(config, name)))
    if study.finished:
        untuned = with_options(config, study.trials[0].params).model_copy(update={"tuned": None})
        same = all(option(config, key) == value for key, value in study.best.params.items())
        its_own = Study.of([], replace(cell, config=untuned)).name == name
        if same and its_own and config.tuned.model_dump() == study.facts():
            return
    raise UserError(
        f"tuned=... says that trials of {name} found this cell's options, and the trials in "
        f"{study.store.root} do not: leave it out, it is for the tuner to say."
    )


def check_seed(config: Config) -> None:
    """Raise UserError if a final run would have the seed of the trials."""
    if config.tune and config.seed == config.tune.seed:
        raise UserError(
            f"seed={config.seed} is that of the trials: choose another, or a tune.seed."
        )


def trial_config(config: Config) -> Config:
    """Return the configuration of a cell's trials, before their options are sampled."""
    assert config.tune is not None
    train = config.train.model_copy(update={"examples": config.tune.examples})
    return config.model_copy(update={"seed": config.tune.seed, "train": train})


def batches(
    grid: list[Overrides], checked: Callable[[Overrides], Cell]
) -> Iterator[list[Overrides]]:
    """Yield batches of jobs, as overrides; each is requested when the previous one has ended.

    First come batches of trials, each with one round of every study, then one batch of all cells of
    the grid with the options found. ``checked`` returns the cell that overrides describe.

    Raises:
        StorageError: The trials cannot be written.
    """
    studies: dict[str, Study] = {}
    wanted: list[tuple[Overrides, str]] = []
    for overrides in grid:
        study = Study.of(overrides, checked(overrides))
        studies.setdefault(study.name, study)
        wanted.append((overrides, study.name))
    if study.cell.config.dry_run:
        left = [each for each in studies.values() if not each.finished]
        found = {each.name: each.found() for each in studies.values() if each.finished}
        ready = [[*overrides, *found.get(name, [])] for overrides, name in wanted]
        yield [each.job(each.ended, {}) for each in left] + ready
        return
    with ExitStack() as held:
        going = []
        for study in studies.values():
            if held.enter_context(study.store.claim("study")):
                going.append(study)
            else:
                print(f"{study.name} is being tuned by another process", flush=True)
        while going := [study for study in going if not study.finished]:
            if jobs := [job for study in going for job in study.begin()]:
                yield jobs
            for study in [study for study in going if study.running]:
                print(
                    f"{study.name} has a trial that did not end; the same command goes on with it"
                )
                going.remove(study)
        if tuned := [(each, studies[name]) for each, name in wanted if studies[name].finished]:
            yield [[*overrides, *study.found()] for overrides, study in tuned]


def final_cell(overrides: Overrides, checked: Callable[[Overrides], Cell]) -> Cell | None:
    """Return the cell with the options that its study found; None while trials are unfinished."""
    study = Study.of(overrides, checked(overrides))
    return checked([*overrides, *study.found()]) if study.finished else None


@dataclass(frozen=True)
class Study:
    """The trials of one learner on one data set in one setting, shared by all of its seeds."""

    name: str
    overrides: Overrides
    cell: Cell

    @classmethod
    def of(cls, overrides: Overrides, cell: Cell) -> "Study":
        """Return the study that determines the options of a cell of the grid."""
        config, tune = cell.config, cell.config.tune
        assert tune is not None
        facts = (trial_config(config).identity(), cell.dataset.digest, cell.device.type)
        digest = digest_of(
            *facts, tune.model_dump(include={"space", "n_startup_trials", "batch_size"})
        )
        name = f"{task_of(config, cell.dataset)}-{digest}"
        given = [*overrides, f"seed={tune.seed}", f"train.examples={tune.examples}"]
        return cls(name, given, replace(cell, store=_store(config, name)))

    @property
    def store(self) -> Store:
        """The store of the trials."""
        return self.cell.store

    @property
    def tune(self) -> Tune:
        """The settings of tuning."""
        assert self.cell.config.tune is not None
        return self.cell.config.tune

    @property
    def trials(self) -> list[FrozenTrial]:
        """The requested trials by number, including unfinished ones; the study may hold more."""
        if not (self.store.root / JOURNAL).exists():
            return []
        trials = opened(self.store.root, self.name, direction_of(self.cell)).trials[
            : self.tune.n_trials
        ]
        return [trial for trial in trials if trial.state != TrialState.WAITING]

    @property
    def running(self) -> list[FrozenTrial]:
        """The unfinished trials."""
        return [trial for trial in self.trials if trial.state == TrialState.RUNNING]

    @property
    def ended(self) -> int:
        """The number of trials that have ended."""
        return sum(trial.state.is_finished() for trial in self.trials)

    @property
    def finished(self) -> bool:
        """Whether all requested trials have ended."""
        return self.ended >= self.tune.n_trials

    def check_maker(self) -> None:
        """Raise UserError if trials are left, but earlier ones have another code fingerprint."""
        if self.trials and not self.finished:
            _check_fingerprint(
                opened(self.store.root, self.name, direction_of(self.cell)), self.cell
            )

    def job(self, number: int, values: dict[str, Any]) -> Overrides:
        """Return the job of a trial with these options."""
        given = {"tune.trial": f"{self.name}/{number}"} | values
        return [*self.overrides, *(f"{key}={json.dumps(value)}" for key, value in given.items())]

    def begin(self) -> list[Overrides]:
        """Return the jobs of the next trials: those of an unfinished round, or else of a new one.

        The options of a trial depend on the rounds before its own, not on whether the command was
        repeated in between. The first trial has the learner's default options.
        """
        with _storage_errors(self.store):
            study = opened(self.store.root, self.name, direction_of(self.cell))
            if study.trials:
                _check_fingerprint(study, self.cell)
            else:
                study.set_user_attr("maker", _fingerprint(self.cell))
            trials = [Trial(study, each._trial_id) for each in self.running]
            # a round is incomplete if fewer trials were requested or sampling was interrupted
            first = len(self.trials)
            begun = self.tune.first_of_batch(trials[0].number if trials else first)
            for number in range(first, min(begun + self.tune.batch_size, self.tune.n_trials)):
                drawn = self._draw(study, number)
                if len(study.trials) == number:  # else it was interrupted before ask()
                    study.enqueue_trial(drawn)
                trials.append(study.ask())
                if self._options(trials[-1]) != drawn:
                    raise damaged(self.store.root, f"trial {number} was not drawn like that")
            return [job for trial in trials for job in self._possible(study, trial)]

    def _possible(self, study: optuna.Study, trial: Trial) -> list[Overrides]:
        """Return the job of a trial; none if its options are incompatible, which makes it failed."""
        options = self._options(trial)
        try:
            cells.check(with_options(trial_config(self.cell.config), options), self.cell.dataset)
        except UserError as mistake:
            print(f"{self.name}-trial{trial.number} failed: {mistake}", flush=True)
            _end(study, trial, self.cell.dataset.domain.metric.worst, 0, 0.0, str(mistake))
            return []
        return [self.job(trial.number, options)]

    @property
    def best(self) -> FrozenTrial:
        """The trial whose options the cells of the study use; the first of equals."""
        ended = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return ended[self.cell.dataset.domain.metric.best([trial.value or 0.0 for trial in ended])]

    def facts(self) -> dict[str, Any]:
        """Return how the options were found, as in `bench.config.schema.Tuned`; raise UserError."""
        told = {"examples", "seconds", "failure"}
        for trial in self.trials:
            if not told <= set(trial.user_attrs) or (trial.number == 0 and trial.value is None):
                raise damaged(self.store.root, f"trial {trial.number} does not tell how it went")
        trials = self.trials
        best = self.best
        return {
            "study": self.name,
            "n_trials": len(trials),
            "trial_examples": self.tune.examples,
            "n_startup_trials": self.tune.n_startup_trials,
            "batch_size": self.tune.batch_size,
            "stopped": sum(trial.state == TrialState.PRUNED for trial in trials),
            "failed": sum(trial.user_attrs["failure"] != "" for trial in trials),
            "examples": sum(trial.user_attrs["examples"] for trial in trials),
            "seconds": float(sum(trial.user_attrs["seconds"] for trial in trials)),
            "first": trials[0].value,
            "best": best.value,
            "options": list(best.params),
        }

    def found(self) -> Overrides:
        """Return the options of the best trial, and what the search cost, as overrides."""
        given = ",".join(f"{key}:{json.dumps(value)}" for key, value in self.facts().items())
        chosen = [f"{key}={json.dumps(value)}" for key, value in self.best.params.items()]
        return [*chosen, f"tuned={{{given}}}"]

    def _draw(self, study: optuna.Study, number: int) -> dict[str, Any]:
        """Return the options of a new trial.

        They are sampled on a copy so that an interruption leaves the study unchanged.
        """
        if number == 0:
            return {key: option(self.cell.config, key) for key in self.tune.ranges}
        seed, _ = key_of("options of a trial", self.name, number)
        sampler = TPESampler(n_startup_trials=self.tune.n_startup_trials, seed=seed)
        copy = optuna.create_study(direction=direction_of(self.cell), sampler=sampler)
        copy.add_trials(study.trials[: self.tune.first_of_batch(number)])
        return self._options(copy.ask())

    def _options(self, trial: Trial) -> dict[str, Any]:
        """Return the options of a trial by name, sampled unless they are already set."""
        options: dict[str, Any] = {}
        for key, span in self.tune.ranges.items():
            low, high, log = span.low, span.high, span.scale == "log"
            if isinstance(low, int) and isinstance(high, int):
                options[key] = trial.suggest_int(key, low, high, log=log)
            else:
                options[key] = trial.suggest_float(key, low, high, log=log)
        return options


def direction_of(cell: Cell) -> Direction:
    """Return whether the metric of a cell is to be maximised or minimised."""
    return "maximize" if cell.dataset.domain.metric.higher_is_better else "minimize"


def run_trial(cell: Cell) -> dict[str, Any]:
    """Train and validate the cell of a trial and report the result to its study.

    A trial that fails has the worst possible score; one that is interrupted resumes when the command is
    repeated. No test episode is drawn.

    Raises:
        StorageError: The result cannot be written.
    """
    config, tune = cell.config, cell.config.tune
    assert tune is not None and tune.trial is not None
    name, _, number = tune.trial.partition("/")
    with _storage_errors(cell.store):
        there = (cell.store.root / JOURNAL).exists()
        study = opened(cell.store.root, name, direction_of(cell)) if there else None
        if study is None or int(number) >= len(study.trials):
            raise UserError(
                f"tune.trial={tune.trial} was never begun: the tuner gives it, not the user."
            )
        _check_fingerprint(study, cell)
        before = study.trials[int(number)]
        if before.state.is_finished():
            return {"status": "trial"}
        trial = Trial(study, before._trial_id)
        _, loop, val_source, _, eval_batch_size = build_components(cell)
        training = Training(loop, config.validation.times)
        begun = time.monotonic()
        # pruning must not depend on which trials of the same round have already ended
        earlier = optuna.create_study(direction=direction_of(cell))
        earlier.add_trials(study.trials[: tune.first_of_batch(before.number)])
        pruner = optuna.pruners.MedianPruner(tune.n_startup_trials)

        def validated() -> None:
            step = len(training.history)
            if step not in before.intermediate_values:
                trial.report(training.history[-1].val_score, step)
            if step < len(training.ends) and pruner.prune(earlier, study.trials[before.number]):
                raise optuna.TrialPruned

        state, failure = TrialState.COMPLETE, ""
        try:
            with handle_signals() as interrupt:
                running.train(
                    cell, training, val_source, eval_batch_size, interrupt, begun, validated
                )
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except RunFailedError as failed:
            failure = str(failed)
        except (OSError, Dismissed):
            raise
        # from the learner's code or ours: the other trials continue
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            failure = one_line(error)

        metric = cell.dataset.domain.metric
        value = metric.worst if failure or not training.best else training.best.val_score
        examples = loop.step * config.train.meta_batch * cell.train_setting.examples
        told = None if state == TrialState.PRUNED else value
        _end(study, trial, told, examples, training.seconds, failure)
        shutil.rmtree(cell.store.runs / cell.name, ignore_errors=True)
    drawn = " ".join(f"{key}={option(config, key):.3g}" for key in tune.ranges)
    end = ", stopped early" if state == TrialState.PRUNED else ""
    end = f", failed: {failure}" if failure else end
    print(f"{cell.name}: validation {metric.text(value)} with {drawn}{end}", flush=True)
    return {"status": "trial"}


def _end(
    study: optuna.Study,
    trial: Trial,
    value: float | None,
    examples: int,
    seconds: float,
    failure: str,
) -> None:
    """Report the outcome of a trial to its study; without a value it was pruned."""
    for key, fact in {"examples": examples, "seconds": seconds, "failure": failure}.items():
        trial.set_user_attr(key, fact)
    study.tell(trial, value, TrialState.PRUNED if value is None else TrialState.COMPLETE)


def _fingerprint(cell: Cell) -> list[str]:
    """Return the fingerprint under which trials with the same options are comparable."""
    return [*protocol.code_fingerprint(cell.config), optuna.__version__]


def _check_fingerprint(study: optuna.Study, cell: Cell) -> None:
    """Raise UserError if the trials of a study have another fingerprint than this process."""
    if study.user_attrs.get("maker") != _fingerprint(cell):
        raise UserError(
            f"The trials in {cell.store.root} are by another version of the code, torch or Optuna, and "
            "cannot be mixed with new ones: move that folder away, and they start anew."
        )


def _check_range(config: Config, key: str, span: Range) -> None:
    """Raise UserError if a range is invalid, or does not contain the value of the first trial."""
    where = f"tune.space.{key}"
    try:
        own = option(config, key)
    except KeyError:
        raise UserError(f"{where} is of no use: {config.algo.name} has no option {key}.") from None
    if key in BUDGET:
        raise UserError(f"{where} is invalid: {key} belongs to the budget, the same for all.")
    if not (math.isfinite(span.low) and math.isfinite(span.high)):
        raise UserError(f"{where} goes from {span.low} to {span.high}: both should be finite.")
    if span.low >= span.high or (span.scale == "log" and span.low <= 0):
        positive = " above zero" if span.scale == "log" else ""
        raise UserError(f"{where} goes from {span.low} to {span.high}: it should rise{positive}.")
    if isinstance(own, bool) or not isinstance(own, int | float):
        raise UserError(f"{where} is invalid: {key}={own} is not a number.")
    if isinstance(span.low, int) and isinstance(span.high, int) and not float(own).is_integer():
        raise UserError(
            f"{where} has whole numbers alone, and {key}={own} is none: write its ends as {span.low}.0 "
            f"and {span.high}.0."
        )
    if not span.low <= own <= span.high:
        raise UserError(
            f"{key}={own}, which the first trial has, is not within {where}, from {span.low} to "
            f"{span.high}: change one of them."
        )


def _store(config: Config, study: str) -> Store:
    """Return the store of a study."""
    return Store(Path(config.results_dir) / "studies" / study)


@contextmanager
def _storage_errors(store: Store) -> Iterator[None]:
    """Convert an OSError within the context to StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"Cannot write the trials to {store.root} ({error.strerror}): fix this and run the same "
            "command again; it resumes from what was saved."
        ) from None
