"""Options found by trials: what they see, how a study goes on after a kill, what is refused."""

import errno
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from bench.config import groups
from bench.config.compose import composed
from bench.config.plugins import CONF
from bench.config.schema import option
from bench.core.errors import RunFailedError, StorageError, UserError
from bench.engine.distributed import ProcessGroup
from bench.runs import cell as cells
from bench.runs import run
from bench.runs.verify import verify
from bench.status import main as status
from bench.tasks.episodes import EpisodeSampler
from tests.bench.small import SMALL
from tests.choices import CODE, OF_CLASSES, UNTRAINED

optuna = pytest.importorskip("optuna")
tuning = pytest.importorskip("bench.sweep.tuning")

LEARNERS = [name for name in groups.names("algo") if "/" not in name and name not in UNTRAINED]
ON_OTHERS = {
    name: ["backbone=mlp", f"dataset={'navigation' if CODE[name].learns_by_acting else 'sinusoid'}"]
    for name in LEARNERS
    if name not in OF_CLASSES
}
"""The data of learners that learn no classes."""
SWEEP = ["tune=optuna", "tune.n_trials=3", "tune.n_startup_trials=2", "tune.examples=240"]


@pytest.fixture
def checked(make):
    return lambda overrides: tuning.check(make(*SWEEP, *overrides))


@pytest.fixture
def tune(checked):
    """Run the trials of a sweep that tunes; gives the jobs of each batch, of which the last are cells."""

    def sweep(*grid: list[str]):
        batches = []
        for batch in tuning.batches(list(grid), checked):
            batches.append(batch)
            for cell in map(checked, batch):
                if not cell.config.tuned:
                    tuning.run_trial(cell)
        return batches

    return sweep


def trials(cell: cells.Cell) -> list:
    return tuning.Study.of([], cell).trials


def told(cell: cells.Cell) -> list[tuple]:
    return [(t.state.name, t.value, t.params, t.intermediate_values) for t in trials(cell)]


@pytest.mark.parametrize("algo", LEARNERS)
def test_every_learner_has_a_space_of_its_own_options(make, algo):
    cell = make("tune=optuna", f"algo={algo}", *ON_OTHERS.get(algo, []))
    assert tuning.check(cell) is cell
    ranges = cell.config.tune.ranges
    assert "train.lr" in ranges
    own = [key for key in ranges if key.startswith("algo.")]
    values = cell.config.algo.options.values()
    assert own or all(value is None for value in values), "its most important options, if any"


def test_spaces_are_those_of_learners():
    assert groups.names("space") == sorted(LEARNERS)


def test_trials_see_no_test_episode_and_the_best_is_trained_anew(
    tune, checked, monkeypatch, capsys
):
    cell = checked([])
    test = cells.build_components(cell).test_source.key
    seen: list[tuple[int, int]] = []
    for name in ("draw", "indices", "classes", "digest"):
        plain = getattr(EpisodeSampler, name)

        def noted(self, *arguments, plain=plain):
            seen.append(self.key)
            return plain(self, *arguments)

        monkeypatch.setattr(EpisodeSampler, name, noted)
    attempt = tuning.run_trial

    def blind(cell):
        seen.clear()
        attempt(cell)
        assert seen and test not in seen

    monkeypatch.setattr(tuning, "run_trial", blind)
    batches = tune(["seed=0"], ["seed=1"])
    assert [len(batch) for batch in batches] == [1, 1, 1, 2], "one study for both seeds"
    monkeypatch.setattr(run, "measure", lambda *_: [])  # which takes long
    record = run.run(checked(batches[-1][1]))
    assert test in seen, "the final cell does"
    monkeypatch.undo()

    found = trials(cell)
    told = re.findall(r"trial\d+: validation ([\d.]+) % with train.lr=", capsys.readouterr().out)
    assert told == [f"{each.value:.1f}" for each in found]
    first, best = found[0], max(found, key=lambda t: t.value * (t.state.name == "COMPLETE"))
    assert first.params == {key: option(cell.config, key) for key in cell.config.tune.ranges}
    assert record["tuning"] == "3 trials of 240 examples with n_startup_trials 2 and batch_size 1"
    assert (record["seed"], record["train_examples"]) == (1, 480)
    tuned = record["tuned"]
    assert tuned["options"] == best.params and record["lr"] == best.params["train.lr"]
    assert (tuned["first"], tuned["best"]) == (first.value, best.value)
    assert tuned["examples"] == sum(t.user_attrs["examples"] for t in found) <= 3 * 240
    stored = cell.store.record(record["cell"])
    assert stored == json.loads(json.dumps(record))
    assert verify(checked(batches[-1][1]), record["cell"]) == []


def test_of_the_best_trials_the_first_is_taken(tune, checked, monkeypatch):
    """The second and the third trial are equally good."""
    values = iter([50.0, 70.0, 70.0])
    monkeypatch.setattr(run, "train", lambda *_: 0.0)
    end = tuning._end
    monkeypatch.setattr(
        tuning, "_end", lambda study, trial, _, *rest: end(study, trial, next(values), *rest)
    )
    batches = tune([])
    found = trials(checked([]))
    assert [each.value for each in found] == [50, 70, 70]
    assert found[1].params["train.lr"] != found[2].params["train.lr"]
    cell = checked(batches[-1][0])
    assert cell.config.train.lr == found[1].params["train.lr"]
    assert (cell.config.tuned.first, cell.config.tuned.best) == (50, 70)


def test_a_killed_sweep_goes_on_as_if_it_had_not_been(tune, checked, make, tmp_path, monkeypatch):
    whole = [f"results_dir={tmp_path}/whole"]
    tune(whole)
    report, left = optuna.trial.Trial.report, [3]  # the first validation of the second trial

    def dying(self, value, step):
        report(self, value, step)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(optuna.trial.Trial, "report", dying)
    with pytest.raises(KeyboardInterrupt):
        tune([])
    monkeypatch.undo()
    assert [t.state.name for t in trials(checked([]))] == ["COMPLETE", "RUNNING"]
    tune([])
    assert told(checked([])) == told(checked(whole))
    assert len(tune([])) == 1, "no trial is made twice"
    assert len(tune(["tune.n_trials=4"])) == 2, "more can be added"


def test_of_a_longer_study_the_trials_asked_for_count(tune, checked):
    *_, ((*_, given),) = tune([])
    study = tuning.Study.of([], checked(["tune.n_trials=4"]))
    more = tuning.batches([["tune.n_trials=4"]], checked)
    next(more)  # a fourth that has not ended
    more.close()
    assert [trial.state.name for trial in study.running] == ["RUNNING"]
    *_, ((*_, again),) = tune([])
    assert again == given and "trials:3," in given


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "call", "left"),
    [
        ("Trial.report", 8, "CCCPRR"),  # in the fifth, when the fourth has ended
        ("Trial.suggest_float", 20, "CCCR"),  # before the fourth has its second option
        ("Study.ask", 9, "CCCR"),  # when the options of the fifth are known
    ],
)
def test_rounds_of_several_trials_are_the_same_after_a_kill(
    tune, checked, tmp_path, monkeypatch, method, call, left
):
    rounds = ["tune.n_trials=8", "tune.batch_size=3", "tune.n_startup_trials=1"]
    whole = [*rounds, f"results_dir={tmp_path}/whole"]
    assert [len(batch) for batch in tune(whole)] == [3, 3, 2, 1]
    kind, _, name = method.partition(".")
    where = {"Trial": optuna.trial.Trial, "Study": optuna.Study}[kind]
    plain, calls = getattr(where, name), iter(range(1, 999))

    def dying(*arguments, **options):
        if next(calls) == call:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    monkeypatch.setattr(where, name, dying)
    with pytest.raises(KeyboardInterrupt):
        tune(rounds)
    monkeypatch.undo()
    assert "".join(t.state.name[0] for t in trials(checked(rounds))) == left
    tune(rounds)
    assert told(checked(rounds)) == told(checked(whole))


def test_rounds_are_the_same_when_trials_are_asked_for_later(tune, checked, tmp_path):
    rounds = ["tune.batch_size=3", "tune.n_startup_trials=1", "tune.n_trials=7"]
    whole = [*rounds, f"results_dir={tmp_path}/whole"]
    tune(whole)
    tune([*rounds, "tune.n_trials=4"])
    assert [len(batch) for batch in tune(rounds)] == [2, 1, 1], "the second round first"
    assert told(checked(rounds)) == told(checked(whole))


def test_what_decides_draws_and_stops_makes_another_study_and_budget(checked):
    names = {
        tuning.Study.of([], checked([option])).name
        for option in (
            "tune.n_trials=9",
            "tune.batch_size=2",
            "tune.n_startup_trials=3",
            "tune.examples=99",
        )
    }
    assert len(names) == 4


def test_trials_of_a_round_do_not_stop_each_other(tune, checked, monkeypatch):
    """Which of them ends first is chance."""
    seen = []
    prune = optuna.pruners.MedianPruner.prune

    def noted(self, study, trial):
        seen.append((trial.number, len(study.trials)))
        return prune(self, study, trial)

    monkeypatch.setattr(optuna.pruners.MedianPruner, "prune", noted)
    tune(["tune.n_trials=6", "tune.batch_size=3", "tune.n_startup_trials=1"])
    assert dict(seen) == {0: 0, 1: 0, 2: 0, 3: 3, 4: 3, 5: 3}


def test_a_trial_that_fails_is_a_bad_one(tune, checked, monkeypatch):
    train, calls = run.train, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise RunFailedError("the training loss became nan")
        train(*arguments)

    monkeypatch.setattr(run, "train", failing)
    *_, ((*_, given),) = tune([])
    assert "failed:1," in given
    failed = trials(checked([]))[1]
    assert failed.value == 0.0 and "became nan" in failed.user_attrs["failure"]


def test_a_trial_that_failed_and_was_made_again_has_not_failed(tune, checked, monkeypatch):
    """A kill came before the study was told."""
    train, tell = run.train, optuna.Study.tell

    def failing(*_):
        raise RunFailedError("the training loss became nan")

    def dying(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", failing)
    monkeypatch.setattr(optuna.Study, "tell", dying)
    with pytest.raises(KeyboardInterrupt):
        tune([])
    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(optuna.Study, "tell", tell)
    *_, ((*_, given),) = tune([])
    assert "failed:0," in given


def test_options_that_exclude_each_other_make_a_failed_trial(tune, checked, monkeypatch):
    """Both ends of the space are possible, and so is what the learner comes with."""
    check = tuning.cells.check

    def choosy(config, dataset=None):
        if config.train.lr not in (0.0002, 0.005, 0.02):
            raise UserError("Such options exclude each other.")
        return check(config, dataset)

    monkeypatch.setattr(tuning.cells, "check", choosy)
    *_, ((*_, given),) = tune(["tune.batch_size=2"])
    _, *failed = trials(checked(["tune.batch_size=2"]))
    assert all("exclude" in trial.user_attrs["failure"] for trial in failed)
    assert "failed:2," in given


def test_predictions_by_places_cost_no_training(tune, checked, monkeypatch):
    monkeypatch.setattr(run, "depends_on_query_order", lambda *_: True)
    *_, ((*_, given),) = tune([])
    assert "failed:3,examples:0," in given


def test_trials_by_other_code_are_not_mixed(tune, checked, monkeypatch, capsys, cache, tmp_path):
    tune(["tune.n_trials=1"])
    monkeypatch.setattr(tuning.protocol, "source_digest", lambda *_: "ed17ed0000000000")
    cell = checked(["tune.n_trials=1"])
    assert len(tune(["tune.n_trials=1"])) == 1, "what was found is still true"
    folder = tuning.Study.of([], cell).store.root
    with pytest.raises(
        UserError, match=f"{folder} are by another version .* move that folder away"
    ):
        tune([])
    assert not tuning.Study.of([], checked([])).running, "no trial is begun in vain"
    job = ["tune.trial=" + f"{folder.name}/0"]
    with pytest.raises(UserError, match="by another version"):
        tuning.run_trial(checked(job))
    assert status([*SMALL, f"cache_dir={cache}", f"results_dir={tmp_path}/results", *SWEEP]) == 1
    assert "1 of 3 trials have ended. The trials in" in capsys.readouterr().out
    folder.rename(tmp_path / "away")
    assert len(tune([])) == 4


def test_a_trial_given_by_hand_is_refused(tune, checked):
    tune(["tune.n_trials=1"])
    own = tuning.Study.of([], checked([])).name
    for trial in ("foo/3", f"{own}/1"):
        with pytest.raises(UserError, match=f"tune.trial={trial} was never begun"):
            tuning.run_trial(checked([f"tune.trial={trial}"]))


@pytest.mark.parametrize("fact", [{"best": 99.0}, {"n_trials": 7}, {"examples": 1}])
def test_findings_given_by_hand_are_refused(tune, checked, fact):
    batches = tune(["tune.n_trials=2"])
    found = checked(batches[-1][0])
    tuning.check(found)
    forged = found.config.tuned.model_copy(update=fact)
    cell = replace(found, config=found.config.model_copy(update={"tuned": forged}))
    with pytest.raises(UserError, match="leave it out, it is for the tuner to say"):
        tuning.check(cell)


def test_trials_are_of_one_process(checked):
    cell = checked([])
    with pytest.raises(
        UserError, match="has trials of one process each: start it without torchrun"
    ):
        tuning.check(replace(cell, world=ProcessGroup(0, 2)))


def test_trials_that_cannot_be_written_are_told(checked, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tuning, "opened", full)
    with pytest.raises(
        StorageError, match="Cannot write the trials to .*No space left.*it resumes"
    ):
        tuning.Study.of([], checked([])).begin()


def test_a_forecast_is_of_what_is_left(tune, checked):
    tune(["tune.n_trials=1"])
    ((trial, cell),) = tuning.batches([["dry_run=true"]], checked)
    assert trial[-1].endswith('/1"') and cell == ["dry_run=true"]
    tune([])
    ((cell,),) = tuning.batches([["dry_run=true"]], checked)
    assert cell[-1].startswith("tuned={")


def test_trials_of_one_study_run_side_by_side_on_request(tune):
    batches = tune(["tune.batch_size=2"])
    assert [len(batch) for batch in batches] == [2, 1, 1]


def test_a_study_belongs_to_one_process_at_a_time(tune, checked, capsys):
    study = tuning.Study.of([], checked([]))
    with study.store.claim("study"):
        assert tune([]) == []
    assert f"{study.name} is being tuned by another process" in capsys.readouterr().out


WRITE = "import os, signal; from pathlib import Path; from bench.sweep.journal import opened;"
OPEN = "opened(Path('results/studies/own'), 'own', 'maximize')"


def test_a_process_killed_while_it_writes_holds_nobody_up(tmp_path):
    """The folder is a relative one, as results_dir is by default."""
    dying = f"{WRITE} os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL); {OPEN}"
    killed = subprocess.run([sys.executable, "-c", dying], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    subprocess.run(
        [sys.executable, "-c", WRITE + OPEN + ".ask()"], cwd=tmp_path, timeout=600, check=True
    )


def test_a_journal_that_ends_within_a_line_is_gone_on_with(tune, checked):
    """As after a full disk or a power cut."""
    tune([])
    journal = tuning.Study.of([], checked([])).store.root / "journal.log"
    whole = journal.read_bytes()
    tune(["tune.n_trials=4"])
    longer = told(checked([]))
    journal.write_bytes(whole + b'{"op_code":8,"wor')
    assert told(checked([])) == longer[:3]
    tune(["tune.n_trials=4"])
    assert told(checked([])) == longer


def test_a_journal_whose_trials_were_edited_is_told(tune, checked):
    tune(["tune.n_trials=1"])
    journal = tuning.Study.of([], checked([])).store.root / "journal.log"
    whole = journal.read_text()
    lines = whole.splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"failure"' not in line))
    with pytest.raises(UserError, match=r"journal\.log is damaged \(trial 0 does not tell how"):
        tune(["tune.n_trials=1"])


def test_a_damaged_journal_is_told(tune, checked):
    study = tuning.Study.of([], checked([]))
    study.store.root.mkdir(parents=True)
    (study.store.root / "journal.log").write_text("{}\n[]\n")
    with pytest.raises(UserError, match=r"journal\.log is damaged"):
        tune([])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.split=train+val", "validation.times=1"], "needs classes to validate on"),
        (["seed=1000"], "seed=1000 is that of the trials"),
        (
            ["algo=maml", "tune.space.algo.inner_lr={low: 0, high: 1, scale: linear}"],
            "0.0 and 1.0.",
        ),
        (
            ["algo=maml", "tune.space.algo.inner_lr.high=inf"],
            "from 0.01 to inf: both should be fin",
        ),
        (["tune.space.train.lr.low=nan"], "from nan to 0.02: both should be finite"),
        (
            ["+tune.space.train.momentum={low: 0.0, high: 0.9, scale: linear}"],
            "end of tune.space cannot",
        ),
        (["train.lr=1"], "train.lr=1.0, which the first trial has, is not within"),
        (["tune.space.train.lr.low=0"], "goes from 0 to 0.02: it should rise above zero"),
        (["+tune.space.algo.c={low: 1, high: 2, scale: log}"], "protonet has no option algo.c"),
        (["+tune.space.train.examples={low: 1, high: 999, scale: log}"], "belongs to the budget"),
        (["algo=maml", "tune.space.algo.inner_steps.high=5.5"], "algo.inner_steps=5.5 is invalid"),
        (
            ["algo=maml", "+tune.space.algo.second_order={low: 0, high: 1, scale: linear}"],
            "second_order=True is not a number",
        ),
        (
            ["algo=maml", "+tune.space.algo.adapts={low: 0, high: 1, scale: linear}"],
            "adapts=all is not a number",
        ),
        (["algo=nearest"], "nearest is not trained, so there is nothing to tune"),
        (["algo=learn2learn/protonet"], "conf/space/ has no learn2learn/protonet"),
    ],
)
def test_what_cannot_be_tuned_is_told_before_any_work(checked, overrides, sentence):
    with pytest.raises(UserError, match=sentence.replace("+", r"\+")):
        checked(overrides)


def test_the_fair_experiment_is_the_same_budget_for_all():
    fair = OmegaConf.load(CONF / "experiment" / "fair_tuned.yaml")
    assert set(fair.hydra.sweeper.params.algo.split(",")) <= set(LEARNERS)
    budgets = []
    for algo in LEARNERS:
        options = composed("experiment=fair_tuned", f"algo={algo}", "dataset=omniglot")
        assert set(options["tune"].pop("space")) <= {"train", "algo"}
        images = options["train"]["examples"]
        budgets.append([options[key] for key in ("tune", "validation", "test")] + [images])
    assert all(budget == budgets[0] for budget in budgets)


def test_status_tells_how_far_trials_are(tune, checked, capsys, cache, tmp_path):
    given = [*SMALL, f"cache_dir={cache}", f"results_dir={tmp_path}/results", *SWEEP]
    batches = tuning.batches([[]], checked)
    for expected in ("missing", "1 of 3 trials have ended"):
        assert status(given) == 1
        assert expected in capsys.readouterr().out
        for job in next(batches):
            tuning.run_trial(checked(job))
    batches.close()
    tune([])
    assert status(given) == 1
    assert "1 missing" in capsys.readouterr().out, "its options are found"
    assert status([*given, "seed=1000"]) == 2, "as bench does"
    assert "seed=1000 is that of the trials" in capsys.readouterr().err
