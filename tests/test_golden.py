"""Small runs whose scores and weights were stored before: what no restructuring may change.

``python -m tests.test_golden`` stores them anew, after a change of the numbers that is meant. Bits are
those of one kind of processor; on others, the scores are compared, which rounding hardly moves.
"""

import hashlib
import importlib.util
import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from bench.config import schema
from bench.config.plugins import CONF
from bench.core.signals import Interrupted
from bench.engine import device
from bench.runs import cell as cells
from bench.runs import run as running
from bench.runs.reload import parameters
from tests.bench.runs.test_resume import interrupt_at

FILE = Path(__file__).with_suffix(".json")
SMALL = [
    "threads=1",
    "device=cpu",
    "train.examples=480",
    "validation.times=2",
    "validation.episodes=6",
    "test.episodes=12",
    "throughput.seconds=0",
    "floors=[]",
]
CONV = "backbone.filters=8"
INTERRUPTED, TUNED = "interrupted", "tuned"
RUNS = {
    "maml": ["algo=maml", CONV],
    "maml-first-order": ["algo=maml", "algo.second_order=false", "algo.inner_steps=2", CONV],
    "maml-transductive": ["algo=maml", "algo.norm_statistics=all_queries", "shots=2", CONV],
    "fomaml": ["algo=fomaml", CONV],
    "anil": ["algo=anil", CONV],
    "metasgd": ["algo=metasgd", CONV],
    "protomaml": ["algo=protomaml", CONV],
    "reptile": ["algo=reptile", CONV],
    "protonet": ["algo=protonet", CONV],
    "protonet-scaled": ["algo=protonet", "algo.initial_scale=10.0", "recipe=augmented", CONV],
    "matchingnet": ["algo=matchingnet", CONV],
    "metaoptnet-svm": ["algo=metaoptnet", "shots=5", CONV],
    "metaoptnet-ridge": ["algo=metaoptnet_rr", "recipe=metaoptnet", CONV],
    "r2d2": ["algo=r2d2", "backbone=conv4_wide", "backbone.filters=8"],
    "baseline": ["algo=baseline", "algo.test_epochs=40", CONV],
    "baselinepp": ["algo=baselinepp", "algo.test_epochs=40", CONV],
    "nearest": ["algo=nearest"],
    "maml-mlp": ["algo=maml", "backbone=mlp"],
    "protonet-resnet12": ["algo=protonet", "backbone=resnet12", "train.examples=240"],
    "protonet-glyphs_warped": ["algo=protonet", "dataset=glyphs_warped", "queries=4", CONV],
    "reptile-glyphs_warped": ["algo=reptile", "dataset=glyphs_warped", "queries=4", "seed=1", CONV],
    "protonet-train+val": ["algo=protonet", "train.split=train+val", "validation.times=1", CONV],
    "learn2learn-maml": ["algo=learn2learn/maml", CONV],
    "learn2learn-protonet": ["algo=learn2learn/protonet", CONV],
    INTERRUPTED: ["algo=reptile", "train.examples=1500", CONV],
    TUNED: ["algo=protonet", "tune=optuna", "tune.n_trials=1", "tune.examples=240", CONV],
}


def run(name: str, folder: Path, interrupt: Any) -> dict[str, Any]:
    """Return what a run comes to: accuracy and loss of each test episode, a digest of its weights."""
    overrides = [
        "dataset=glyphs",
        *SMALL,
        f"results_dir={folder}/results",
        f"cache_dir={folder}/cache",
    ]
    cell = checked([*overrides, *RUNS[name]])
    if name == TUNED:
        cell = tuned([*overrides, *RUNS[name]])
    if name == INTERRUPTED:
        interrupt()
        with pytest.raises(Interrupted):
            running.run(cell)
    running.run(cell)
    stored = cell.store.runs / cell.name
    episodes = pd.read_csv(stored / "episodes.csv")
    weights, values = hashlib.sha256(), parameters(cell.store, cell.name)
    for key in cells.build_learner(cell.config, cell.dataset, cell.train_setting).state_dict():
        weights.update(values[key].numpy().tobytes())
    return {
        "score": episodes["score"].tolist(),
        "loss": episodes["loss"].tolist(),
        "weights": weights.hexdigest()[:16],
    }


def checked(overrides: list[str]) -> cells.Cell:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return cells.check(schema.from_hydra(hydra.compose("config", overrides)))


def tuned(overrides: list[str]) -> cells.Cell:
    """Run the trials of a study; returns the cell that has the options found."""
    from bench.sweep import tuning

    def ready(job: list[str]) -> cells.Cell:
        return tuning.check(checked(job))

    for batch in tuning.batches([overrides], ready):
        for cell in map(ready, batch):
            if cell.config.tuned:
                return cell
            tuning.run_trial(cell)
    raise AssertionError("no trial was the best")


def machine() -> str:
    """What bits depend on besides the code."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{device.describe(torch.device('cpu'))}, {capability}, torch {torch.__version__}, " + (
        f"Python {platform.python_version_tuple()[0]}, {sys.platform}"
    )


@contextmanager
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_scores_and_weights_are_as_stored(name, tmp_path, monkeypatch):
    if name.startswith("learn2learn") and not importlib.util.find_spec("learn2learn"):
        pytest.skip("needs learn2learn, the peer")
    if name == TUNED:
        pytest.importorskip("optuna")
    stored = json.loads(FILE.read_text())
    with threads_as_before():
        now = run(name, tmp_path, lambda: interrupt_at(monkeypatch, {4}))
    before = stored["runs"][name]
    if machine() in stored["machines"]:
        assert now == before
    assert np.mean(now["score"]) == pytest.approx(np.mean(before["score"]), abs=3)
    assert np.mean(now["loss"]) == pytest.approx(np.mean(before["loss"]), rel=0.1)


def main() -> None:
    """Store all runs anew."""
    runs = {}
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            runs[name] = run(name, Path(folder), lambda patch=patch: interrupt_at(patch, {4}))
        print(name, np.mean(runs[name]["score"]), runs[name]["weights"], flush=True)
    stored = {"machines": [machine()], "runs": runs}
    FILE.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
