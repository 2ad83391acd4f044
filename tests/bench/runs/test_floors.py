"""What is run under the learners: which floors, when, and on which episodes."""

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from bench.cli.command import command
from bench.core.errors import RunFailedError, UserError
from bench.core.signals import run_command
from bench.engine.distributed import ProcessGroup
from bench.runs import cell as cells
from bench.runs import floors
from bench.runs import run as running
from bench.runs.store import Store
from tests.bench.small import SMALL


def floor_of(cell):
    (floor,) = floors.of(cell)
    return floor


def test_a_floor_is_one_for_all_learners_seeds_and_budgets_of_a_setting(make):
    on = "floors=[nearest]"
    names = {
        floor_of(make(on, *overrides)).name
        for overrides in (
            ["algo=maml"],
            ["algo=reptile", "seed=3"],
            ["algo=protonet", "train.examples=960", "train.lr=0.1", "validation.times=1"],
            ["algo=metaoptnet", "backbone.filters=8", "recipe=augmented"],
            ["tune=optuna", "logger=tensorboard"],
        )
    }
    assert len(names) == 1
    others = (
        ["shots=5"],
        ["ways=3"],
        ["queries=4"],
        ["test.episodes=13"],
        ["dataset=glyphs_warped"],
    )
    more = {floor_of(make(on, *overrides)).name for overrides in others}
    assert len(names | more) == 1 + len(others)


def test_it_is_tested_on_the_episodes_of_the_learner(make):
    cell = make("floors=[nearest]")
    floor = floor_of(cell)
    assert floor.store.root == cell.store.root and not floor.config.floors
    digests = {each["episodes_digest"] for each in map(running.run, (cell, floor))}
    assert len(digests) == 1


def test_it_is_run_once_by_one_process_and_its_failure_is_a_row(make, monkeypatch, capsys):
    cell = make("floors=[nearest]")
    floor = floor_of(cell)
    monkeypatch.setattr(cells, "process_group", lambda: ProcessGroup(0, 2))  # of torchrun
    tried = []

    def fails(floor):
        tried.append(floor.world.size)
        raise RunFailedError("no luck")

    monkeypatch.setattr(running, "run", fails)
    with floor.store.claim(floor.name):  # by another sweep
        floors.run([floor.config])
    assert not tried
    for _ in range(2):
        floors.run([floor.config])
    assert tried == [1]
    assert floor.store.record(floor.name)["reason"] == "no luck"
    assert f"{floor.name}, a floor, failed: no luck" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("[nearst]", "There is no algo 'nearst'"),
        ("[nearest,maml]", "maml is trained. A floor, such"),
    ],
)
def test_what_is_no_floor_is_refused(make, asked, sentence):
    with pytest.raises(UserError, match=sentence):
        floors.of(make(f"floors={asked}"))


@pytest.fixture
def typed(cache, tmp_path, monkeypatch, capsys, undrawn):
    def run(*arguments: str) -> tuple[int, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        folders = [f"cache_dir={cache}", f"results_dir={tmp_path}/results"]
        monkeypatch.setattr(sys, "argv", ["bench", *SMALL, *folders, *arguments])
        try:
            status = run_command(command)
        except SystemExit as exited:
            status = exited.code
        out, error = capsys.readouterr()
        return status, out + error

    return run


def stored(tmp_path) -> list[str]:
    return sorted(
        path.parent.name for path in Store(tmp_path / "results").runs.glob("*/record.json")
    )


def test_a_run_and_a_sweep_have_the_floor_of_each_setting(typed, tmp_path, monkeypatch):
    status, text = typed("algo=protonet", "floors=[nearest]")
    assert status == 0, text
    assert [name.rsplit("-", 1)[0] for name in stored(tmp_path)] == [
        "nearest-glyphs-5w1s-seed0",
        "protonet-glyphs-5w1s-seed0",
    ]
    status, text = typed("-m", "algo=protonet,maml", "shots=1,2", "floors=[nearest]")
    assert status == 0, text
    floor = [name.rsplit("-", 1)[0] for name in stored(tmp_path) if name.startswith("nearest")]
    assert floor == ["nearest-glyphs-5w1s-seed0", "nearest-glyphs-5w2s-seed0"]
    assert "nearest-glyphs-5w1s" not in text, "it was there already"


@pytest.mark.slow
def test_no_floor_is_run_where_none_is_asked_for_or_nothing_is_run(typed, tmp_path):
    assert (
        typed("algo=protonet", "floors=[nearest]", "dry_run=true", "throughput.seconds=0")[0] == 0
    )
    assert not stored(tmp_path)
    assert typed("algo=protonet")[0] == 0
    assert len(stored(tmp_path)) == 1
    status, text = typed("-m", "algo=protonet,maml", "floors=[reptile]")
    assert status == 2 and "reptile is trained" in text
    status, text = typed("algo=protonet", "seed=1", "floors=[reptile]")
    assert status == 2 and "reptile is trained" in text
    assert len(stored(tmp_path)) == 1, "before any work"
