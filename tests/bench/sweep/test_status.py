"""The grid of a sweep: what is done and what is not."""

import json

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from bench.runs import run
from bench.status import main
from bench.sweep.callback import grid
from bench.sweep.status import overrides_of
from tests.bench.small import SMALL


@pytest.fixture
def said(capsys):
    def command(*arguments: str) -> tuple[int, str]:
        GlobalHydra.instance().clear()
        status = main(list(arguments))
        out, error = capsys.readouterr()
        return status, out + error

    return command


def test_every_state_of_a_cell(make, said, cache, tmp_path, monkeypatch):
    sweep = ["algo=protonet,metaoptnet", "seed=0,1,2", *SMALL]
    sweep += [f"cache_dir={cache}", f"results_dir={tmp_path}/results"]
    made = {
        (algo, seed): make(f"algo={algo}", f"seed={seed}")
        for algo in ("protonet", "metaoptnet")
        for seed in (0, 1, 2)
    }
    done = run.run(made["protonet", 0])
    store = made["protonet", 0].store
    stale = {"commit": "0123456789ab"}
    failed = {"status": "failed", "reason": "the loss became nan"}
    for seed, changes in ((1, stale), (2, failed)):
        name = made["protonet", seed].name
        store.write(name, {"record.json": json.dumps(done | changes | {"cell": name})})
    store.save_checkpoint(made["metaoptnet", 0].name, b"")
    with store.claim(made["metaoptnet", 1].name):
        status, text = said("-m", *sweep)
    assert status == 1
    assert text.splitlines()[:4] == [
        "| algo | seed 0 | seed 1 | seed 2 |",
        "| --- | ---: | ---: | ---: |",
        "| protonet | done | stale | failed |",
        "| metaoptnet | interrupted | running | missing |",
    ]
    assert "6 cells: 1 done, 1 stale, 1 failed, 1 interrupted, 1 running, 1 missing." in text
    assert "stale: algo=protonet seed=1" in text and "by commit 0123456789ab, now" in text
    assert "failed: algo=protonet seed=2" in text and "the loss became nan" in text

    folder = tmp_path / "results" / "sweeps" / "2026-01-01_00-00-00"
    folder.mkdir(parents=True)
    ran = {"hydra": {"overrides": {"task": [*sweep[:1], "seed=0,1", *sweep[2:]]}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(ran))
    status, text = said(f"results_dir={tmp_path}/results")
    assert "| metaoptnet | interrupted | missing |" in text

    status, text = said(*sweep[2:], "algo=protonet")
    assert status == 0 and "1 cells: 1 done." in text


def test_an_experiment_may_be_a_sweep_by_itself():
    GlobalHydra.instance().clear()
    cells = grid(overrides_of(["-m", "experiment=heads_by_recipe", "seed=0,1"]))
    assert len(cells) == 3 * 4 * 2
    assert cells[-1] == [
        "algo=metaoptnet", "recipe=metaoptnet", "experiment=heads_by_recipe", "seed=1"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["hydra: [", "{}", "hydra: {overrides: {task: 5}}", "a: &a [1]\nb: *a", "[" * 9999]
)
def test_a_damaged_sweep_is_named(said, tmp_path, text):
    (tmp_path / "sweeps" / "1").mkdir(parents=True)
    (tmp_path / "sweeps" / "1" / "multirun.yaml").write_text(text)
    assert said(f"results_dir={tmp_path}") == (
        2,
        f"error: {tmp_path}/sweeps/1/multirun.yaml is damaged; give the overrides of the sweep.\n",
    )


def test_no_code_of_a_stranger_is_run(said, cache, tmp_path):
    """A folder of results may come from anywhere."""
    (tmp_path / "sweeps" / "1").mkdir(parents=True)
    ran = {"hydra": {"overrides": {"task": ["backbone.target=os.system", f"cache_dir={cache}"]}}}
    (tmp_path / "sweeps" / "1" / "multirun.yaml").write_text(yaml.safe_dump(ran))
    status, text = said(f"results_dir={tmp_path}")
    assert status == 2 and "would run 'os.system', which conf/backbone/ does not know" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["algo=mamml"], "There is no algo 'mamml'"),
        (["seed=-1"], "seed=-1 is invalid"),
        ([], "There is no sweep in results/sweeps"),
    ],
)
def test_mistakes(said, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, text = said(*arguments)
    assert status == 2 and sentence in text and text.count("\n") == 1, text
