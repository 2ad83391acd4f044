"""Runs of no outer steps: of a learner without parameters, or of any without training images."""

import json

import pytest
import torch

from bench.core.errors import UserError
from bench.engine.distributed import ProcessGroup
from bench.engine.evaluate import evaluate
from bench.probe import main as probe
from bench.report import build, read
from bench.runs import cell as cells
from bench.runs import run
from bench.sweep.forecast import forecast
from bench.sweep.plan.estimate import estimate
from bench.sweep.status import state
from bench.verify import main as verify


@pytest.fixture
def nearest(make):
    return make("algo=nearest")


def test_it_is_tested_as_it_is_made(make):
    """The same learner, evaluated by hand."""
    cell = make("algo=maml", "train.examples=0")
    record = run.run(cell)
    learner, _, _, source, _ = cells.build_components(cell)
    tested = evaluate(learner, source, 12, 4)
    assert cell.store.episodes(cell.name)["score"].tolist() == tested["score"].tolist()
    assert record["parameters"] > 0 and record["train_examples"] == 0


def test_its_record_says_that_nothing_was_trained_or_chosen(nearest):
    record = run.run(nearest)
    assert json.loads(json.dumps(record)) == nearest.store.record(nearest.name)
    zero = ("parameters", "train_examples", "train_episodes", "train_seconds", "selected_episode")
    assert [record[key] for key in zero] == [0] * 5
    assert record["val_score"] is None
    assert 20 < record["score"] < 100
    assert [row["phase"] for row in record["throughput"]] == ["evaluate", "adapt", "infer"]
    folder = nearest.store.runs / nearest.name
    assert {path.name for path in folder.iterdir()} == {
        *("record.json", "config.yaml", "episodes.csv", "model.json", "model.safetensors")
    }


def test_a_learner_without_parameters_is_not_trained_whatever_the_budget(make, nearest):
    assert nearest.config.train.examples == 0
    assert nearest.config.backbone.name == "pixels"
    given = ["train.examples=9600", "train.lr=1", "train.queries=2", "validation.times=1"]
    assert make("algo=nearest", *given).name == nearest.name, "they determine nothing"
    assert make("algo=nearest", "test.episodes=13").name != nearest.name
    assert make("train.examples=0", "train.lr=1").name == make("train.examples=0").name
    assert make("train.examples=0", "seed=1").name != make("train.examples=0").name
    assert make("train.lr=1").name != make().name


def test_what_is_said_of_training_with_others_does_not_matter(make, monkeypatch):
    monkeypatch.setattr(cells, "process_group", lambda: ProcessGroup(0, 2))
    with pytest.raises(UserError, match="2 processes cannot share the 1 episodes"):
        make("train.meta_batch=1")
    assert make("algo=nearest", "train.meta_batch=1").world.size == 2


def test_commands_take_it_as_any_other(nearest, make, cache, capsys, undrawn, caplog):
    overrides = ["algo=nearest", "throughput.seconds=0", "test.episodes=12", "device=cpu"]
    folder = nearest.store.root
    overrides += ["dataset=glyphs", f"results_dir={folder}", f"cache_dir={cache}"]
    run.run(nearest)
    assert state([*overrides])[0] in ("done", "stale")
    assert verify([f"results_dir={folder}", f"cache_dir={cache}"]) == 0
    assert probe([f"results_dir={folder}", f"cache_dir={cache}", "episodes=5"]) == 0
    assert set(nearest.store.trials(nearest.name)["varied"]) == {"shots", "ways"}
    run.run(make("algo=protonet"))
    build(folder)
    assert not caplog.messages
    assert "Nearest centroid" in (folder / "accuracy.md").read_text()


def test_times_foretold_are_those_of_the_test_alone(nearest, make):
    times = forecast(nearest)
    assert times["training"] == times["validation"] == 0 < times["test"]

    run.run(nearest)
    trained = run.run(make("algo=protonet", "train.examples=0"))
    rows = read(nearest.store.root)[0]
    facts = rows[0] if rows[0]["algo"] == "nearest" else rows[1]
    found = estimate(facts | {"episodes": 24}, rows)
    assert found.differing == ["episodes"]
    assert found.middle.seconds > 0
    assert estimate(trained | {"train_examples": 480}, rows) is None, (
        "nothing is known of its training"
    )


def test_torch_needs_no_parameters_to_make_its_optimizer(nearest):
    learner, loop, *_ = cells.build_components(nearest)
    assert not list(learner.parameters()) and loop.steps == 0
    assert torch.is_tensor(loop.lr)
