"""Options found by trials, before the cell that is tested: what ``tune=optuna`` does.

Each learner, data set and setting has a study. Its trials are trainings with options drawn from the
learner's space, judged by validation episodes alone; the cells of the study, one a seed, are then
trained anew with the options of the best trial and tested once, like any other. A study is kept in ::

    results/studies/<study>/journal.log         all trials, by Optuna
                            runs/<trial>/       where a trial stands that has not ended
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

from bench import cell as cells
from bench import protocol, running
from bench.cell import Cell, digest_of, parts, task_of
from bench.config import Config, Range, Tune, option, with_options
from bench.data.philox import key_of
from bench.interrupt import Dismissed, listening
from bench.mistake import Failed, Mistake, Unkept, in_a_line
from bench.store import Store
from bench.train import Training

try:
    import optuna
    from optuna.samplers import TPESampler
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError:
    raise Mistake(
        "tune=optuna needs a package that is not installed: pip install 'fewshot-bench[tune]', or in a "
        "clone uv sync --extra tune."
    ) from None

from bench.journal import JOURNAL, damaged, opened

optuna.logging.set_verbosity(optuna.logging.ERROR)

Overrides = list[str]
BUDGET = {"train.images", "train.split"}
"""Options that are no learner's own."""


def check(cell: Cell) -> Cell:
    """The cell as a sweep that tunes runs it, a trial in its own place; raises Mistake."""
    config, tune = cell.config, cell.config.tune
    assert tune is not None
    if config.tuned:
        check_found(cell)
        return cell
    if tune.trial:
        study, _, number = tune.trial.partition("/")
        return replace(cell, name=f"{study}-trial{number}", store=_store(config, study))
    if cell.world.size > 1:
        raise Mistake("tune=optuna has trials of one process each: start it without torchrun.")
    if config.train.split != "train":
        raise Mistake("tune=optuna needs classes to validate on: leave train.split=train.")
    if not config.train.images:
        raise Mistake(f"{config.algo.name} is not trained, so there is nothing to tune.")
    if not tune.ranges:
        raise Mistake(
            f"There is nothing to tune: conf/space/ has no {config.algo.name}. Give a range, such as "
            "'+tune.space.train.rate={low:0.0002,high:0.02,scale:log}'."
        )
    check_seed(config)
    for key, span in tune.ranges.items():
        _check_range(config, key, span)
    for end in ("low", "high"):
        values = {key: getattr(span, end) for key, span in tune.ranges.items()}
        try:
            cells.check(with_options(of_trials(config), values), cell.dataset)
        except Mistake as mistake:
            raise Mistake(f"An end of tune.space cannot be tried: {mistake}") from None
    return cell


def check_found(cell: Cell) -> None:
    """Raises Mistake where what ``tuned`` says was not found by trials, as when it is given by hand."""
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
    raise Mistake(
        f"tuned=... says that trials of {name} found this cell's options, and the trials in "
        f"{study.store.root} do not: leave it out, it is for the tuner to say."
    )


def check_seed(config: Config) -> None:
    """Raises Mistake where a final run would have the seed of the trials."""
    if config.tune and config.seed == config.tune.seed:
        raise Mistake(f"seed={config.seed} is that of the trials: choose another, or a tune.seed.")


def of_trials(config: Config) -> Config:
    """The configuration of the trials of a cell, before they draw their options."""
    assert config.tune is not None
    train = config.train.model_copy(update={"images": config.tune.images})
    return config.model_copy(update={"seed": config.tune.seed, "train": train})


def batches(
    grid: list[Overrides], checked: Callable[[Overrides], Cell]
) -> Iterator[list[Overrides]]:
    """The jobs to launch, by their overrides: one batch after the other, each when the last has ended.

    First come rounds of trials, one of each study, then all cells of the grid with what was found.
    ``checked`` gives the cell that overrides describe. Raises Unkept.
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


def final(overrides: Overrides, checked: Callable[[Overrides], Cell]) -> Cell | None:
    """The cell with the options that its study found; None while trials are to end."""
    study = Study.of(overrides, checked(overrides))
    return checked([*overrides, *study.found()]) if study.finished else None


@dataclass(frozen=True)
class Study:
    """The trials of one learner on one data set in one setting, for all of its seeds."""

    name: str
    overrides: Overrides
    cell: Cell

    @classmethod
    def of(cls, overrides: Overrides, cell: Cell) -> "Study":
        """The study that gives the options of a cell of the grid."""
        config, tune = cell.config, cell.config.tune
        assert tune is not None
        facts = (of_trials(config).determining(), cell.dataset.digest, cell.device.type)
        digest = digest_of(*facts, tune.model_dump(include={"space", "startup", "at_once"}))
        name = f"{task_of(config, cell.dataset)}-{digest}"
        given = [*overrides, f"seed={tune.seed}", f"train.images={tune.images}"]
        return cls(name, given, replace(cell, store=_store(config, name)))

    @property
    def store(self) -> Store:
        """Where the trials are."""
        return self.cell.store

    @property
    def tune(self) -> Tune:
        """How the trials are made."""
        assert self.cell.config.tune is not None
        return self.cell.config.tune

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials asked for by number, those included that have not ended; there may be more."""
        if not (self.store.root / JOURNAL).exists():
            return []
        trials = opened(self.store.root, self.name).trials[: self.tune.trials]
        return [trial for trial in trials if trial.state != TrialState.WAITING]

    @property
    def running(self) -> list[FrozenTrial]:
        """The trials that have not ended."""
        return [trial for trial in self.trials if trial.state == TrialState.RUNNING]

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return sum(trial.state.is_finished() for trial in self.trials)

    @property
    def finished(self) -> bool:
        """Whether as many trials have ended as there shall be."""
        return self.ended >= self.tune.trials

    def check_maker(self) -> None:
        """Raises Mistake where trials are to be made, and those that there are had another maker."""
        if self.trials and not self.finished:
            _check_maker(opened(self.store.root, self.name), self.cell)

    def job(self, number: int, values: dict[str, Any]) -> Overrides:
        """The job of a trial with such options."""
        given = {"tune.trial": f"{self.name}/{number}"} | values
        return [*self.overrides, *(f"{key}={json.dumps(value)}" for key, value in given.items())]

    def begin(self) -> list[Overrides]:
        """The jobs of the next trials: those of a round that was begun and never ended, or of a new one.

        What a trial draws depends on the rounds before its own, not on whether the command was
        repeated in between. The first has the options that the learner comes with.
        """
        with _kept(self.store):
            study = opened(self.store.root, self.name)
            if study.trials:
                _check_maker(study, self.cell)
            else:
                study.set_user_attr("maker", _maker(self.cell))
            trials = [Trial(study, each._trial_id) for each in self.running]
            # a round is incomplete where fewer trials were asked for, or a kill came while it was drawn
            first = len(self.trials)
            begun = self.tune.round_begun(trials[0].number if trials else first)
            for number in range(first, min(begun + self.tune.at_once, self.tune.trials)):
                drawn = self._draw(study, number)
                if len(study.trials) == number:  # else a kill came between these two
                    study.enqueue_trial(drawn)
                trials.append(study.ask())
                if self._options(trials[-1]) != drawn:
                    raise damaged(self.store.root, f"trial {number} was not drawn like that")
            return [job for trial in trials for job in self._possible(study, trial)]

    def _possible(self, study: optuna.Study, trial: Trial) -> list[Overrides]:
        """The job of a trial; none where its options exclude each other, by which it has failed."""
        options = self._options(trial)
        try:
            cells.check(with_options(of_trials(self.cell.config), options), self.cell.dataset)
        except Mistake as mistake:
            print(f"{self.name}-trial{trial.number} failed: {mistake}", flush=True)
            _end(study, trial, 0.0, 0, 0.0, str(mistake))
            return []
        return [self.job(trial.number, options)]

    @property
    def best(self) -> FrozenTrial:
        """The trial whose options the cells of the study have; the first of equals is the best."""
        ended = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return max(ended, key=lambda trial: trial.value or 0.0)

    def facts(self) -> dict[str, Any]:
        """How the options were found, as `bench.config.Tuned` has it; raises Mistake."""
        told = {"images", "seconds", "failure"}
        for trial in self.trials:
            if not told <= set(trial.user_attrs) or (trial.number == 0 and trial.value is None):
                raise damaged(self.store.root, f"trial {trial.number} does not tell how it went")
        trials = self.trials
        best = self.best
        return {
            "study": self.name,
            "trials": len(trials),
            "trial_images": self.tune.images,
            "startup": self.tune.startup,
            "at_once": self.tune.at_once,
            "stopped": sum(trial.state == TrialState.PRUNED for trial in trials),
            "failed": sum(trial.user_attrs["failure"] != "" for trial in trials),
            "images": sum(trial.user_attrs["images"] for trial in trials),
            "seconds": float(sum(trial.user_attrs["seconds"] for trial in trials)),
            "first": trials[0].value,
            "best": best.value,
            "options": list(best.params),
        }

    def found(self) -> Overrides:
        """What the best trial had, and what it cost to know."""
        given = ",".join(f"{key}:{json.dumps(value)}" for key, value in self.facts().items())
        chosen = [f"{key}={json.dumps(value)}" for key, value in self.best.params.items()]
        return [*chosen, f"tuned={{{given}}}"]

    def _draw(self, study: optuna.Study, number: int) -> dict[str, Any]:
        """What a new trial shall try, found on a copy, so that a kill leaves none half drawn."""
        if number == 0:
            return {key: option(self.cell.config, key) for key in self.tune.ranges}
        seed, _ = key_of("options of a trial", self.name, number)
        sampler = TPESampler(n_startup_trials=self.tune.startup, seed=seed)
        copy = optuna.create_study(direction="maximize", sampler=sampler)
        copy.add_trials(study.trials[: self.tune.round_begun(number)])
        return self._options(copy.ask())

    def _options(self, trial: Trial) -> dict[str, Any]:
        """The options of a trial by name, drawn unless they are given."""
        options: dict[str, Any] = {}
        for key, span in self.tune.ranges.items():
            low, high, log = span.low, span.high, span.scale == "log"
            if isinstance(low, int) and isinstance(high, int):
                options[key] = trial.suggest_int(key, low, high, log=log)
            else:
                options[key] = trial.suggest_float(key, low, high, log=log)
        return options


def attempt(cell: Cell) -> dict[str, Any]:
    """Train and validate the cell of a trial, and tell its study how good that was; raises Unkept.

    A trial that fails has an accuracy of zero; one that is interrupted goes on when the command is
    repeated. No test episode is drawn.
    """
    config, tune = cell.config, cell.config.tune
    assert tune is not None and tune.trial is not None
    name, _, number = tune.trial.partition("/")
    with _kept(cell.store):
        there = (cell.store.root / JOURNAL).exists()
        study = opened(cell.store.root, name) if there else None
        if study is None or int(number) >= len(study.trials):
            raise Mistake(
                f"tune.trial={tune.trial} was never begun: the tuner gives it, not the user."
            )
        _check_maker(study, cell)
        before = study.trials[int(number)]
        if before.state.is_finished():
            return {"status": "trial"}
        trial = Trial(study, before._trial_id)
        _, loop, val_sampler, _, at_once = parts(cell)
        training = Training(loop, config.validation.times)
        begun = time.monotonic()
        # trials of the same round may end sooner or later: which of them have must make no difference
        earlier = optuna.create_study(direction="maximize")
        earlier.add_trials(study.trials[: tune.round_begun(before.number)])
        pruner = optuna.pruners.MedianPruner(tune.startup)

        def validated() -> None:
            step = len(training.history)
            if step not in before.intermediate_values:
                trial.report(training.history[-1].val_accuracy, step)
            if step < len(training.ends) and pruner.prune(earlier, study.trials[before.number]):
                raise optuna.TrialPruned

        state, failure = TrialState.COMPLETE, ""
        try:
            with listening() as interrupt:
                running.train(cell, training, val_sampler, at_once, interrupt, begun, validated)
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except Failed as failed:
            failure = str(failed)
        except (OSError, Dismissed):
            raise
        # of the learner's code or ours: the other trials go on
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            failure = in_a_line(error)

        value = 0.0 if failure or not training.best else training.best.val_accuracy
        ways, shots, queries = cell.train_shape
        images = loop.step * config.train.meta_batch * ways * (shots + queries)
        told = None if state == TrialState.PRUNED else value
        _end(study, trial, told, images, training.seconds, failure)
        shutil.rmtree(cell.store.runs / cell.name, ignore_errors=True)
    drawn = " ".join(f"{key}={option(config, key):.3g}" for key in tune.ranges)
    end = ", stopped early" if state == TrialState.PRUNED else ""
    end = f", failed: {failure}" if failure else end
    print(f"{cell.name}: validation {value:.1f} % with {drawn}{end}", flush=True)
    return {"status": "trial"}


def _end(
    study: optuna.Study,
    trial: Trial,
    value: float | None,
    images: int,
    seconds: float,
    failure: str,
) -> None:
    """Tell a study what became of a trial; without a value it was stopped."""
    for key, fact in {"images": images, "seconds": seconds, "failure": failure}.items():
        trial.set_user_attr(key, fact)
    study.tell(trial, value, TrialState.PRUNED if value is None else TrialState.COMPLETE)


def _maker(cell: Cell) -> list[str]:
    """What trials with the same options are the same by."""
    return [*protocol.maker(cell.config), optuna.__version__]


def _check_maker(study: optuna.Study, cell: Cell) -> None:
    """Raises Mistake where the trials of a study had another maker than this process would be."""
    if study.user_attrs.get("maker") != _maker(cell):
        raise Mistake(
            f"The trials in {cell.store.root} are by another version of the code, torch or Optuna, and "
            "cannot be mixed with new ones: move that folder away, and they start anew."
        )


def _check_range(config: Config, key: str, span: Range) -> None:
    """Raises Mistake where a range is none, or does not hold the value that the first trial has."""
    where = f"tune.space.{key}"
    try:
        own = option(config, key)
    except KeyError:
        raise Mistake(f"{where} is of no use: {config.algo.name} has no option {key}.") from None
    if key in BUDGET:
        raise Mistake(f"{where} is not possible: {key} belongs to the budget, the same for all.")
    if not (math.isfinite(span.low) and math.isfinite(span.high)):
        raise Mistake(f"{where} goes from {span.low} to {span.high}: both should be finite.")
    if span.low >= span.high or (span.scale == "log" and span.low <= 0):
        positive = " above zero" if span.scale == "log" else ""
        raise Mistake(f"{where} goes from {span.low} to {span.high}: it should rise{positive}.")
    if isinstance(own, bool) or not isinstance(own, int | float):
        raise Mistake(f"{where} is not possible: {key}={own} is no number.")
    if isinstance(span.low, int) and isinstance(span.high, int) and not float(own).is_integer():
        raise Mistake(
            f"{where} has whole numbers alone, and {key}={own} is none: write its ends as {span.low}.0 "
            f"and {span.high}.0."
        )
    if not span.low <= own <= span.high:
        raise Mistake(
            f"{key}={own}, which the first trial has, is not within {where}, from {span.low} to "
            f"{span.high}: change one of them."
        )


def _store(config: Config, study: str) -> Store:
    """Where a study is kept."""
    return Store(Path(config.results_dir) / "studies" / study)


@contextmanager
def _kept(store: Store) -> Iterator[None]:
    """Raises Unkept where what is done within cannot be written."""
    try:
        yield
    except OSError as error:
        raise Unkept(
            f"Cannot write the trials to {store.root} ({error.strerror}): mend that and run the same "
            "command again; it goes on from what was saved before."
        ) from None
