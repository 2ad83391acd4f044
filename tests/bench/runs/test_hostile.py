"""Odd overrides get a sentence before any work, and nothing that a learner does loses its row."""

import json

import pytest

from bench.core.errors import UserError
from bench.runs.records import REASON_LETTERS
from bench.sweep.job import run as attempt

LEARNERS = """
from algorithms.backbones.conv4 import Conv4
from algorithms.protonet import ProtoNet


class Optional(ProtoNet):
    def __init__(self, backbone, ways, *, widths: list[int] = [1], table: dict = {}, word: str = "",
                 initial_scale: float | None = None):
        super().__init__(backbone, ways)


class Own(Conv4): ...


class Leaving(ProtoNet):
    def meta_gradient(self, episodes):
        raise SystemExit(0)


class Wordy(ProtoNet):
    def meta_gradient(self, episodes):
        raise ValueError("too long " * 10_000)
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A module of somebody's own learners."""
    (tmp_path / "strange.py").write_text(LEARNERS)
    monkeypatch.syspath_prepend(str(tmp_path))


BACKBONE = "backbone.target=strange.Own"
OWN = ["algo.name=own", "algo.target=strange.Optional"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["seed=999999999999999999999"], "seed=9{21} is invalid: it should be less than 9"),
        (["test.episodes=3000000000"], "test.episodes=30{9} is invalid: it should be less"),
        (["backbone.filters=0"], "conv4 with .*'filters': 0.* a layer of nothing: .* 1 or more"),
        (["train.lr_factors=[inf]"], "train.lr_factors=inf is invalid: .* finite number"),
        (["algo=maml", "algo.inner_lr=nan"], "algo.inner_lr=nan is invalid.* a finite number"),
        (["algo=maml", "algo.inner_lr=inf"], "algo.inner_lr=inf is invalid.* a finite number"),
        (["train.lr=inf"], "train.lr=inf is invalid: it should be a finite number"),
        (["throughput.seconds=1e300"], "throughput.seconds=1e.300 is invalid: .* less than"),
        ([*OWN, "+algo.widths=[1,2]"], r"its algo_options.widths is '\[1, 2\]': an option has"),
        ([*OWN, "+algo.table={a:1}"], "its algo_options.table is .*: an option has a name of"),
        ([*OWN, "+algo.word=" + 11_000 * "x"], "its algo_options.word is 'x+': an option has"),
        (["algo.name='a b'", OWN[1]], "its algo is 'a b': a name is made of letters, digits"),
        (["backbone.name='a b'", BACKBONE], "its backbone is 'a b': a name is made of letters, dig"),
        (["threads=100000"], "threads=100000 is far more than the .* cores here: give threads="),
        (["train.meta_batch=1000000"], "120,000,000 an outer step, where train.examples=480 are"),
        (["validation.times=1000000000"], "is far more than the 4 outer steps of train.examples=480"),
        (["dataset.name=evil"], "dataset.name=evil is invalid: .*prepare is called glyphs"),
        (["algo.name=evil"], "algo.name=evil is invalid: .*ProtoNet is called protonet"),
        (["algo.name=maml"], "algo.name=maml is that of algorithms.maml.MAML, not of algorithms.pr"),
    ],
)  # fmt: skip
def test_an_odd_override_gets_one_sentence_before_any_work(make, tmp_path, overrides, sentence):
    with pytest.raises(UserError, match=sentence) as mistake:
        make(*overrides)
    assert "\n" not in str(mistake.value)
    assert not list(tmp_path.rglob("*.json"))


TUNED = {"study": "a", "n_trials": 9, "trial_examples": 9, "stopped": 0, "failed": 0, "examples": 9}
TUNED |= {
    "n_startup_trials": 2,
    "batch_size": 1,
    "seconds": 1.0,
    "first": 50.0,
    "best": 99.0,
    "options": ["train.lr"],
}


def test_what_trials_have_found_is_for_the_tuner_to_say(make):
    given = ",".join(f"{key}:{json.dumps(value)}" for key, value in TUNED.items())
    with pytest.raises(UserError, match="which is for the tuner to say: .* add tune=optuna"):
        make(f"tuned={{{given}}}")
    tuning = pytest.importorskip("bench.sweep.tuning")
    with pytest.raises(UserError, match="the trials in .*studies/a do not: leave it out"):
        tuning.check(make(f"tuned={{{given}}}", "tune=optuna"))


def test_what_the_tuner_says_is_held_to_the_trials(make):
    tuning = pytest.importorskip("bench.sweep.tuning")
    asked = ["tune=optuna", "tune.n_trials=1", "tune.n_startup_trials=1", "tune.examples=240"]
    ((trial,), (job,)) = _tuned(tuning, make, asked)
    assert trial[-1] and tuning.check(make(*asked, *job)).config.tuned
    for hand in (
        ["train.lr=0.5"],
        ["algo=reptile"],
        [job[-1].replace("trials:1", "trials:2")],
    ):
        with pytest.raises(UserError, match="do not: leave it out"):
            tuning.check(make(*asked, *job, *hand))


def _tuned(tuning, make, asked):
    """The jobs of a study that is run: its trial, and its cell."""
    batches = []
    for batch in tuning.batches([[]], lambda overrides: tuning.check(make(*asked, *overrides))):
        batches.append(batch)
        cell = tuning.check(make(*asked, *batch[0]))
        if not cell.config.tuned:
            tuning.run_trial(cell)
    return batches


def test_a_learner_that_ends_the_process_is_a_failed_row(make, capsys):
    record = attempt(make("algo.name=leaving", "algo.target=strange.Leaving"))
    assert (record["status"], record["reason"]) == ("failed", "SystemExit: 0")


def test_what_a_long_error_says_is_shortened_and_not_lost(make, capsys):
    cell = make("algo.name=wordy", "algo.target=strange.Wordy")
    attempt(cell)
    reason = cell.store.record(cell.name)["reason"]
    assert reason.startswith("ValueError: too long too long ")
    assert reason.endswith(" ... (90,011 letters)") and len(reason) < REASON_LETTERS + 30
