"""One training for several cells."""

import json
import signal
from dataclasses import replace

import pandas as pd
import pytest
from safetensors.torch import load_file

from bench.core.signals import Interrupted
from bench.engine import device as devices
from bench.engine import train
from bench.engine.training_cache import TrainingCache
from bench.runs import run
from bench.runs.cell import training_digest
from tests.bench.runs.test_resume import interrupt_at

OPTIONS = ["train.examples=300", "train.meta_batch=2", "validation.times=3", "throughput.seconds=0"]
REPTILE = [*OPTIONS, "algo=reptile", "train.shots=2", "algo.test_inner_steps=2"]
OF_TIME = ("elapsed_seconds", "train_seconds", "train_process_seconds", "throughput", "created")


def row(cell):
    """What a run came to, times aside: record, history, test episodes, parameters."""
    folder = cell.store.runs / cell.name
    record = json.loads((folder / "record.json").read_text())
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    weights = load_file(folder / "model.safetensors")
    return (
        {key: value for key, value in record.items() if key not in OF_TIME},
        history.to_csv(),
        (folder / "episodes.csv").read_text(),
        {name: value.tolist() for name, value in weights.items()},
    )


@pytest.mark.parametrize(
    "others",
    [
        ["algo=reptile", "algo.norm_statistics=all_queries", "shots=3"],
        ["algo=protonet", "ways=3", "validation.episodes=7"],
    ],
    ids=["reptile", "protonet"],
)
def test_rows_of_a_shared_training_are_those_of_trainings_of_their_own(
    make, monkeypatch, tmp_path, others
):
    first = REPTILE if "algo=reptile" in others else [*OPTIONS, "train.ways=5", "train.shots=2"]
    one = make(*first, f"results_dir={tmp_path}/shared")
    other, alone = (
        make(*first, *others, f"results_dir={tmp_path}/{name}") for name in ("shared", "b")
    )
    assert one.name != other.name == alone.name
    assert training_digest(one) == training_digest(other)
    run.run(alone)
    run.run(replace(one, shares_training=True))
    with monkeypatch.context() as patch:
        patch.setattr(train.OuterLoop, "advance", None)
        run.run(replace(other, shares_training=True))
    assert row(other) == row(alone)


@pytest.mark.parametrize(
    "other",
    [
        ["seed=1"],
        ["train.shots=3"],
        ["train.queries=4", "algo=protonet"],
        ["validation.times=2"],
        ["algo.inner_steps=4"],
        ["backbone.filters=8"],
        ["train.lr=0.5"],
        ["train.examples=1600"],
    ],
)
def test_cells_whose_training_differs_share_none(make, other):
    first = [*REPTILE] if "algo=protonet" not in other else [*OPTIONS, "algo=protonet"]
    assert training_digest(make(*first)) != training_digest(make(*first, *other))
    assert training_digest(make(*first, "train.shots=2")) == training_digest(
        make(*first, "train.shots=2", "shots=2")
    )
    assert training_digest(make(*OPTIONS)) != training_digest(make(*OPTIONS, "shots=2")), (
        "as in the test"
    )


def test_cells_whose_numbers_are_rounded_otherwise_share_none(make, monkeypatch):
    first, alike, other = (make(*OPTIONS, f"threads={n}") for n in (1, 1, 2))
    assert training_digest(first) == training_digest(alike) != training_digest(other)
    before = training_digest(first)
    monkeypatch.setattr(devices, "describe", lambda _: "another processor")
    assert training_digest(first) != before


def test_what_is_damaged_or_missing_is_trained_anew(make):
    one, other = (
        replace(make(*OPTIONS, "train.shots=1", option), shares_training=True)
        for option in ("queries=5", "queries=6")
    )
    run.run(one)
    kept = TrainingCache(one.store.trainings / training_digest(one))
    first, *_ = sorted(kept.folder.iterdir())
    first.write_bytes(b"damaged")
    run.run(other)
    assert first.stat().st_size > 7 and kept.has([int(path.stem) for path in kept.folder.iterdir()])
    kept.drop()
    assert not kept.folder.exists()
    kept.drop()


def test_a_repeated_training_is_not_gone_on_with(make, monkeypatch):
    """Its optimizer has seen nothing: interrupted, it begins anew, and the states may be gone by then."""
    one, other = (
        replace(make(*OPTIONS, "train.shots=1", option), shares_training=True)
        for option in ("queries=5", "queries=6")
    )
    alone = run.run(make(*OPTIONS, "train.shots=1", "queries=6", "seed=0"))
    (other.store.runs / other.name / "record.json").unlink()
    run.run(one)
    kept = TrainingCache(one.store.trainings / training_digest(one))

    checkpoint = train.Training._validation_point

    def interrupted(training, accuracies):
        signal.raise_signal(signal.SIGTERM)
        return checkpoint(training, accuracies)

    with monkeypatch.context() as patch:
        patch.setattr(train.Training, "_validation_point", interrupted)
        with pytest.raises(Interrupted):
            run.run(other)
    assert other.store.checkpoint(other.name) is None
    kept.drop()
    record = run.run(other)
    assert record["score"] == alone["score"]
    assert record["selected_episode"] == alone["selected_episode"]


def test_an_interrupted_training_is_kept_as_a_whole(make, monkeypatch, tmp_path):
    one = replace(make(*OPTIONS, "train.ways=5"), shares_training=True)
    interrupt_at(monkeypatch, {3})
    with pytest.raises(Interrupted):
        run.run(one)
    run.run(one)
    kept = TrainingCache(one.store.trainings / training_digest(one))
    assert len(list(kept.folder.iterdir())) == 3
