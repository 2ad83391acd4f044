"""Runs that are interrupted, and go on."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from bench.core.signals import (
    RESUMABLE,
    UNHEARD,
    Interrupt,
    Interrupted,
    handle_signals,
    run_command,
)
from bench.engine import train
from bench.engine.distributed import SINGLE_PROCESS
from bench.runs import cell as cells
from bench.runs import checkpoint, run
from bench.tasks.classification.domain import Classification
from tests.bench.small import ALGOS

ROOT = Path(__file__).parents[3]
QUICK = ["train.examples=1500", "validation.times=3"]


def ends(cell: cells.Cell) -> tuple[pd.DataFrame, list[float], dict]:
    """What may not depend on interruptions: history (times aside), accuracies, parameters."""
    folder = cell.store.runs / cell.name
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    return (
        history,
        pd.read_csv(folder / "episodes.csv")["score"].tolist(),
        load_file(folder / "model.safetensors"),
    )


def interrupt_at(monkeypatch, steps: set[int], number: int = signal.SIGTERM) -> None:
    """The process gets a signal after these steps of its outer loop."""
    advance = train.OuterLoop.advance

    def signalled(loop: train.OuterLoop):
        metrics = advance(loop)
        if loop.step in steps and loop.learner.training:
            steps.discard(loop.step)
            os.kill(os.getpid(), number)
        return metrics

    monkeypatch.setattr(train.OuterLoop, "advance", signalled)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_run_interrupted_twice_ends_as_one_that_was_not(
    make, monkeypatch, algo, tmp_path, capsys
):
    options = [f"algo={algo}", *QUICK]
    options += ["algo.test_inner_steps=2"] if algo == "reptile" else []
    whole, broken = (make(*options, f"results_dir={tmp_path}/{name}") for name in "ab")
    run.run(whole)
    steps = cells.build_components(whole).loop.steps
    assert steps >= 6
    # in the middle of a stretch, and with the step that a validation follows
    interrupt_at(monkeypatch, {2, round(steps * 2 / 3)})
    for _ in range(2):
        with pytest.raises(Interrupted) as caught:
            run.run(broken)
        assert caught.value.status == RESUMABLE
        assert broken.store.checkpoint(broken.name) and not broken.finished
    saved = torch.load(broken.store.checkpoint(broken.name), weights_only=True)["elapsed"]
    began = time.monotonic()
    record = run.run(broken)
    assert record["status"] == "done" and broken.finished
    assert saved < record["elapsed_seconds"] < saved + time.monotonic() - began
    assert record["elapsed_seconds"] > record["train_seconds"]
    assert capsys.readouterr().out.count(f"{broken.name} resumes at step ") == 2
    assert not broken.store.checkpoint(broken.name)
    history, accuracies, weights = ends(whole)
    assert len(history) == 3
    pd.testing.assert_frame_equal(ends(broken)[0], history, check_exact=True)
    assert ends(broken)[1] == accuracies
    for name, value in ends(broken)[2].items():
        assert torch.equal(value, weights[name]), name


def test_steps_after_the_first_second_cost_no_more_than_a_stretch(make, monkeypatch):
    """Saved during training, not only when a signal asks for it: a kill loses what came since."""
    monkeypatch.setattr(train, "MAX_SECONDS_BETWEEN_PAUSES", -1.0)
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", -1.0)
    cell = make(*QUICK)
    saved = []
    save = cell.store.save_checkpoint
    monkeypatch.setattr(
        type(cell.store), "save_checkpoint", lambda _, *a: (save(*a), saved.append(1))
    )
    run.run(cell)
    loop = cells.build_components(cell).loop
    assert len(saved) == loop.steps, "after each step, of which three are followed by a validation"


def test_a_training_that_ended_is_kept_though_its_test_did_not(make, monkeypatch, capsys):
    cell = make(*QUICK)
    with monkeypatch.context() as patched:
        domain = type(cell.dataset.domain)
        patched.setattr(domain, "interval", lambda *_: sys.exit("in the test"))
        with pytest.raises(SystemExit):
            run.run(cell)
    steps = cells.build_components(cell).loop.steps
    assert run.run(cell)["status"] == "done"
    assert f"resumes at step {steps} of {steps}" in capsys.readouterr().out


def test_what_cannot_be_used_is_not(make, monkeypatch, capsys):
    cell = make(*QUICK)
    interrupt_at(monkeypatch, {2, 3, 4, 5})
    with pytest.raises(Interrupted):
        run.run(cell)
    path = cell.store.checkpoint(cell.name)
    assert path is not None
    state = torch.load(path, weights_only=True)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(Interrupted):
        run.run(cell)
    assert f"restarts: {path} is damaged" in capsys.readouterr().out
    torch.save({"other": 1}, path)
    with pytest.raises(Interrupted):
        run.run(cell)
    assert "is damaged (it holds no training)" in capsys.readouterr().out
    state["fingerprint"][1] = "another torch"
    torch.save(state, path)
    with pytest.raises(Interrupted):
        run.run(cell)
    assert "its checkpoint is of another version" in capsys.readouterr().out
    run.run(cell)
    assert "resumes at step 5 of" in capsys.readouterr().out


def test_a_training_restarts_when_its_code_was_edited(make, monkeypatch, capsys, tmp_path):
    """Also that of a third party, and where no commit tells."""
    monkeypatch.syspath_prepend(tmp_path)
    learner = tmp_path / "edited.py"
    learner.write_text("from algorithms.protonet import ProtoNet as Mine\n")
    cell = make(*QUICK, "algo.name=mine", "algo.target=edited.Mine")
    for step, text, said in (
        (2, "", ""),
        (3, "", "resumes at step 2 of"),
        (4, "# changed\n", "its checkpoint is of another version"),
    ):
        learner.write_text(learner.read_text() + text)
        interrupt_at(monkeypatch, {step})
        with pytest.raises(Interrupted):
            run.run(cell)
        assert said in capsys.readouterr().out


def test_the_best_validation_before_an_interruption_stays_the_best(make):
    first, later = (
        train.Training(cells.build_components(make("algo=protonet")).loop, 2) for _ in range(2)
    )
    good, bad = torch.tensor([90.0, 90.0]), torch.tensor([10.0, 10.0])
    found = next(each for each in first.run(lambda: good, lambda: None) if each)
    later.load_state_dict(first.state_dict())
    assert later.best == found
    for name, value in first.best_state.items():
        assert torch.equal(later.best_state[name], value), name
    assert len([each for each in later.run(lambda: bad, lambda: None) if each]) == 1
    assert later.best == found and len(later.history) == 2


def test_a_second_signal_waits_for_nothing():
    seen = []

    def work() -> None:
        with handle_signals() as interrupt, interrupt.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            seen.append("held back")
            os.kill(os.getpid(), signal.SIGINT)
            seen.append("never")

    with pytest.raises(Interrupted) as caught:
        work()
    assert seen == ["held back"]
    assert caught.value.status == 130


def test_a_signal_outside_of_training_is_raised_at_once_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with handle_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("not reached")

    with pytest.raises(Interrupted):
        work()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, RESUMABLE)])
def test_every_command_ends_with_a_sentence(number, status, capsys):
    assert run_command(lambda _: os.kill(os.getpid(), number) or 0) == status
    said = capsys.readouterr().err
    assert "interrupted: what was saved is kept" in said and "Traceback" not in said
    assert run_command(lambda _: 3) == 3


def test_a_reader_that_has_enough_is_no_error():
    """As in python -m bench.report | head -1."""
    script = "import sys; from bench.core.signals import run_command\n"
    script += "sys.exit(run_command(lambda _: print('x\\n' * 10**6) or 0))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == b"x\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(600) == UNHEARD


def test_a_cell_is_run_by_one_process_at_a_time(make):
    cell = make()
    assert not cell.store.running(cell.name)
    with cell.store.claim(cell.name) as mine, cell.store.claim(cell.name) as theirs:
        assert (mine, theirs) == (True, False)
        assert cell.store.running(cell.name)
    assert not cell.store.running(cell.name)
    with cell.store.claim(cell.name) as mine:
        assert mine


@settings(deadline=None)
@given(st.data())
def test_a_kill_costs_at_most_20_s_a_step_and_a_validation(data):
    """Whenever `run.train` is killed, lost is what it has done since it last saved."""
    with pytest.MonkeyPatch.context() as patch:
        lost, step, validation = longest_without_a_save(data, patch)
    assert lost <= 20 + step + validation + 1e-6


def longest_without_a_save(data, patch) -> tuple[float, float, float]:
    """Of a training by a clock of its own, with the longest step and validation."""
    now, spent = [0.0], {"step": [0.0], "validation": [0.0]}
    saves, dice = [], data.draw(st.randoms(use_true_random=False))
    scale = {part: data.draw(st.sampled_from([0.01, 1, 8, 30])) for part in spent}

    def spend(part: str) -> None:
        spent[part].append(scale[part] * dice.random())
        now[0] += spent[part][-1]

    class Loop:
        learner, world = torch.nn.Identity(), SINGLE_PROCESS
        source = SimpleNamespace(domain=Classification())
        train = SimpleNamespace(meta_batch=1)
        steps, step = data.draw(st.integers(1, 60)), 0

        def __init__(self, *_):
            pass

        def advance(self):
            spend("step")
            self.step += 1
            return {"loss": torch.zeros(()), "score": torch.zeros(())}

        def state_dict(self):
            return {}

    class Rehearsal(Loop):
        def advance(self):
            saves.append(now[0])

    def evaluate(*_):
        spend("validation")
        return {"score": torch.zeros(2)}

    clock = SimpleNamespace(
        monotonic=lambda: now[0], perf_counter=lambda: now[0], process_time=lambda: now[0]
    )
    for module in (train, checkpoint):
        patch.setattr(module, "time", clock)
    patch.setattr(train, "OuterLoop", Rehearsal)
    patch.setattr(checkpoint, "code_fingerprint", lambda _: [])
    patch.setattr(run, "evaluate", evaluate)
    patch.setattr(run, "depends_on_query_order", lambda *_: False)
    store = SimpleNamespace(
        checkpoint=lambda _: None, save_checkpoint=lambda *_: saves.append(now[0])
    )
    config = SimpleNamespace(validation=SimpleNamespace(episodes=2))
    cell = SimpleNamespace(
        name="cell", config=config, world=SINGLE_PROCESS, store=store, device=torch.device("cpu")
    )
    training = train.Training(Loop(), data.draw(st.integers(1, 9)))
    run.train(cell, training, None, 1, Interrupt(), 0.0)
    longest = max(later - earlier for earlier, later in pairwise([*saves, now[0]]))
    return longest, max(spent["step"]), max(spent["validation"])
