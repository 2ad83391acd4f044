"""Few-shot regression of sinusoids, from the functions to the tables."""

import json
import math
from dataclasses import replace

import hydra
import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.backbones.pixels import Pixels
from algorithms.knn import NearestNeighbor
from algorithms.learner import Setting
from bench import report
from bench.check.domain import Told
from bench.config import schema
from bench.config.plugins import CONF
from bench.core.errors import UserError
from bench.datasets.functions import sinusoid
from bench.datasets.io.cache import DataDirs
from bench.runs import cell as cells
from bench.runs import run as running
from bench.runs.probe import Trial
from bench.runs.reload import load_cell
from bench.runs.verify import verify
from bench.tasks import leaks
from bench.tasks.base import MOST
from bench.tasks.episodes import EpisodeSampler, episodes_of

DIGEST = "97d44c8e41c123f5"
SMALL = [
    "dataset=sinusoid",
    "train.examples=20000",
    "validation.times=2",
    "validation.episodes=20",
    "test.episodes=30",
    "throughput.seconds=0.001",
    "device=cpu",
    "threads=1",
]


@pytest.fixture(scope="module")
def dataset():
    return sinusoid.prepare(DataDirs.of())


@pytest.fixture
def make(tmp_path):
    def cell(*overrides: str) -> cells.Cell:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose(
                "config", [*SMALL, f"results_dir={tmp_path}/results", *overrides]
            )
        return cells.check(schema.from_hydra(composed))

    return cell


def test_functions_are_sine_waves_of_the_papers_ranges(dataset):
    pool = dataset.splits["val"]
    x, y = (each.view(-1, sinusoid.POINTS).double() for each in (pool.inputs, pool.targets))
    assert x.min() < -4.99 and x.max() > 4.99 and x.abs().max() <= 5
    # y = a sin x + b cos x, with a = A cos p and b = -A sin p
    basis = torch.stack((x.sin(), x.cos()), -1)
    found = torch.linalg.lstsq(basis, y[..., None]).solution
    torch.testing.assert_close((basis @ found)[..., 0], y, rtol=0, atol=1e-5)
    amplitude, phase = found.norm(dim=1)[:, 0], torch.atan2(-found[:, 1, 0], found[:, 0, 0])
    assert 0.1 <= amplitude.min() < 0.12 and 4.9 < amplitude.max() <= 5
    assert 0 <= phase.min() < 0.02 and math.pi - 0.02 < phase.max() <= math.pi
    assert amplitude.mean().item() == pytest.approx(2.55, abs=0.15)


def test_functions_are_the_same_everywhere_and_leak_nowhere(dataset):
    leaks.check(dataset.splits)
    assert dataset.digest == sinusoid.prepare(DataDirs.of()).digest
    assert dataset.digest[:16] == DIGEST


def test_a_point_that_two_splits_share_is_a_leak_and_its_x_alone_is_not(dataset):
    splits = {
        name: replace(pool, inputs=pool.inputs.clone()) for name, pool in dataset.splits.items()
    }
    splits["test"].inputs[7] = splits["train"].inputs[5]
    leaks.check(splits)
    targets = splits["test"].targets.clone()
    targets[7] = splits["train"].targets[5]
    splits["test"] = replace(splits["test"], targets=targets)
    with pytest.raises(ValueError, match="1 examples are in more than one split"):
        leaks.check(splits)


def test_a_task_is_one_function(dataset, make):
    cell = make("algo=maml")
    source = episodes_of(dataset, "test", cell.test_setting, cell.device, "test")
    drawn = source.draw(3, 2)
    assert drawn.support_x.shape == drawn.support_y.shape == (2, 1, 10, 1)
    assert drawn.query_x.shape == drawn.query_y.shape == (2, 40, 1)
    pool = dataset.splits["test"]
    for task in range(2):
        first = pool.offsets[drawn.classes[task, 0]]
        known = set(pool.inputs[first : first + sinusoid.POINTS, 0].tolist())
        seen = torch.cat((drawn.support_x[task].flatten(), drawn.query_x[task].flatten()))
        assert len(set(seen.tolist())) == 50 and set(seen.tolist()) <= known


@pytest.mark.parametrize(
    "algo",
    ["maml", "fomaml", "anil", "metasgd", "reptile", "r2d2", "metaoptnet_rr", "nearest_neighbor"],
)
def test_a_run_ends_with_an_error_and_can_be_verified(make, algo, tmp_path):
    cell = make(f"algo={algo}")
    record = running.run(cell)
    assert record["metric"]["name"] == "mse" and record["examples"] == "points"
    assert 0 < record["score"] < 20 and record["ways"] is None
    tested = cell.store.episodes(cell.name)
    assert np.isclose(tested["score"].mean(), record["score"])
    again = load_cell(cell.store, cell.name, {"data_root": None, "cache_dir": None})
    assert verify(again, cell.name) == []


def test_its_report_has_a_table_of_the_error_and_pictures_of_functions(make):
    cell = make("algo=maml")
    record = running.run(cell)
    report.build(cell.store.root)
    table = pd.read_csv(cell.store.root / "mse.csv")
    assert table["mse"].tolist() == [record["score"]]
    assert not (cell.store.root / "accuracy.csv").exists()
    assert "10-shot" in (cell.store.root / "mse.md").read_text()
    standings = (cell.store.root / "leaderboard.md").read_text()
    assert f"| model 1 | {record['score']:#.3g} |" in standings, "an error has three digits"
    assert (cell.store.root / "figures" / "functions.png").exists()
    assert (cell.store.root / "figures" / "adaptation.png").exists()


def test_functions_of_two_numbers_have_no_pictures(dataset):
    pool = dataset.splits["test"]
    setting = Setting(None, shots=2, queries=3)
    learner = NearestNeighbor(Pixels((1,)), 1)
    learner.loss = dataset.domain.loss()
    source = EpisodeSampler(pool, setting, ("test",), dataset.domain)
    assert list(dataset.domain.files(learner, source, {})) == ["functions.csv"]
    wide = replace(pool, inputs=pool.inputs.repeat(1, 2))
    source = EpisodeSampler(wide, setting, ("test",), dataset.domain)
    assert dataset.domain.files(learner, source, {}) == {}


def test_the_parameters_of_the_smallest_error_are_tested(make, monkeypatch):
    cell = make("algo=r2d2", "validation.times=4")
    running.run(cell)
    curve = cell.store.history(cell.name)
    record = json.loads((cell.store.runs / cell.name / "record.json").read_text())
    assert record["val_score"] == curve["val_score"].min()


def test_a_task_that_diverges_has_the_largest_error(dataset, make):
    cell = make("algo=maml")
    source = episodes_of(dataset, "test", cell.test_setting, cell.device, "test")
    batch = source.draw(0, 3)
    outputs = batch.query_y.double() + 2
    outputs[1, 3], outputs[2, 4] = torch.nan, -torch.inf
    score = dataset.domain.evaluate(Told(outputs), batch, source.tasks(0, 3))["score"]
    assert score.tolist() == [pytest.approx(4), MOST, MOST]
    assert dataset.domain.metric.contains(MOST)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["algo=protonet"], "protonet needs tasks with classes, and those of sinusoid have none"),
        (["algo=metaoptnet"], "metaoptnet needs tasks with classes"),
        (["algo=baseline"], "baseline needs tasks with classes"),
        (["algo=maml", "ways=5"], "Tasks of sinusoid have no classes: leave ways"),
        (["algo=r2d2", "train.ways=20"], "Tasks of sinusoid have no classes: leave ways"),
        (["algo=maml", "backbone=conv4"], "need images .* not inputs of shape .1."),
        (["algo=maml", "train.label_smoothing=0.1"], "no labels to be smoothed"),
        (
            ["algo=maml", "train.flip=true"],
            "Images alone are augmented, and the learner sees none of sinusoid",
        ),
        (["algo=maml", "shots=40"], "shots=40 plus queries=40 is 80 examples"),
        (["algo=maml", "dataset=glyphs", "ways=null"], "Tasks of glyphs have classes: give ways="),
    ],
)
def test_mistakes_are_told_before_any_work(make, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        make(*overrides)


@pytest.mark.parametrize(("score", "ci95"), [(1e16, 0.1), (0.5, 1e16)])
def test_impossible_probes_are_left_out(make, monkeypatch, score, ci95):
    """Such as those of a learner that diverges with more inner steps than it was trained with."""
    found = [Trial("steps", "1", 40, 5, 0.5, 0.1), Trial("steps", "2", 40, 5, score, ci95)]
    monkeypatch.setattr(running, "probe", lambda *_: found)
    cell = make("algo=maml", "train.examples=0", "test.episodes=5")
    running.run(cell)
    assert cell.store.trials(cell.name)["value"].astype(str).tolist() == ["1"]
