"""Records, curves and results folders made in code."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.runs.records import SCHEMA
from bench.tasks.classification.domain import Classification

Row = dict[str, Any]
ACCURACY = Classification.metric


def record(algo: str = "maml", ways: int = 5, shots: int = 1, seed: int = 0, **changes: Any) -> Row:
    """A finished cell; its numbers follow from its name, `changes` override keys."""
    luck = np.random.default_rng(zlib.crc32(f"{algo}{ways}{shots}{seed}".encode()))
    accuracy = round(float(96 + 1.0 * (shots == 5) - 3 * (ways == 20) + luck.normal(0, 1)), 3)
    speed = round(float(np.exp(luck.normal(4, 0.8))), 3)
    row = {
        "schema": SCHEMA,
        "cell": f"{algo.replace('/', '_')}-omniglot-{ways}w{shots}s-seed{seed}-1a2b3c4d",
        "status": "done",
        "reason": None,
        "algo": algo,
        "dataset": "omniglot",
        "ways": ways,
        "shots": shots,
        "queries": 15,
        "seed": seed,
        "score": accuracy,
        "ci95": 0.42,
        "episodes": 1000,
        "transductive": False,
        "order": 2 if algo == "maml" else 1,
        "algo_options": {"inner_steps": 5},
        "metric": ACCURACY.model_dump(),
        "examples": "images",
        "norm_statistics": "running",
        "code": "0123456789abcdef",
        "elapsed_seconds": round(30000 / speed, 1),
        "train_process_seconds": round(24000 / speed, 1),
        "episodes_digest": f"9f{ways:02d}{shots:02d}aabbccdd",
        "data_digest": "ab12cd34ef56",
        "backbone": "conv4",
        "backbone_options": {"filters": 64},
        "parameters": 28357,
        "train_ways": ways,
        "train_shots": shots,
        "train_queries": 5,
        "train_examples": 200000,
        "train_split": "train",
        "optimizer": "adam",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "lr": 0.002,
        "lr_schedule": "cosine",
        "clip_value": None,
        "label_smoothing": 0.0,
        "augmentation": "none",
        "validations": 5,
        "val_episodes": 100,
        "val_score": accuracy,
        "selected_episode": 24000,
        "train_episodes": 24000,
        "train_seconds": round(24000 / speed, 1),
        "meta_batch": 16,
        "device": "cpu",
        "device_name": "Some CPU @ 2.0 GHz",
        "threads": 2,
        "processes": 1,
        "launcher": "basic",
        "precision": "fp32",
        "deterministic": False,
        "python": "3.11.7",
        "created": "2026-11-23T13:57:54+00:00",
        "torch": "2.15.0",
        "version": "0.1.0",
        "commit": "abc1234",
        "throughput": timed(speed, ways * (shots + 15)),
    }
    return row | changes


def timed(speed: float, images: int = 80) -> list[Row]:
    """The throughput of a cell that trains at this speed (tasks/s), with this many images a task."""
    return [
        {
            "phase": phase,
            "tasks_per_s": speed * factor,
            "examples_per_s": speed * factor * images,
            "ms_median": 16000 / (speed * factor),
            "ms_iqr": 8.0,
            "tasks_per_call": 16,
            "calls": 10,
            "peak_mib": None,
        }
        for phase, factor in (("train", 1.0), ("adapt", 3.5), ("infer", 21.25))
    ]


def failed(algo: str = "maml", reason: str = "Out of memory.", **changes: Any) -> Row:
    """A failed cell: what was asked, no results."""
    row = record(algo, **changes)
    lacking = ("score", "ci95", "episodes", "episodes_digest", "train_seconds", "throughput")
    lacking += ("val_score", "selected_episode", "train_episodes")
    lacking += ("elapsed_seconds", "train_process_seconds")
    protocol = {key: value for key, value in row.items() if key not in lacking}
    return protocol | {"status": "failed", "reason": reason}


def curve(row: Row, points: int = 13) -> pd.DataFrame:
    """A learning curve that ends near the accuracy of its row."""
    luck = np.random.default_rng(zlib.crc32(row["cell"].encode()))
    episodes = np.linspace(0, row["train_episodes"], points).astype(int)
    rise = 1 - np.exp(-5 * episodes / row["train_episodes"])
    chance = 100 / (row["ways"] or 2)
    accuracy = chance + (row["score"] - chance) * rise + luck.normal(0, 0.4, points)
    return pd.DataFrame(
        {
            "episodes": episodes,
            "seconds": np.round(episodes / row["train_episodes"] * row["train_seconds"], 2),
            "train_loss": 1 - 0.9 * rise,
            "train_score": accuracy + 1,
            "val_score": accuracy,
            "val_ci95": 1.5 - rise,
        }
    )


def episodes(row: Row) -> pd.DataFrame:
    """Test episodes whose mean and interval are those of the row."""
    luck = np.random.default_rng(zlib.crc32(row["cell"].encode()))
    accuracy = luck.normal(size=row["episodes"])
    accuracy = (accuracy - accuracy.mean()) / accuracy.std(ddof=1)
    accuracy = row["score"] + accuracy * row["ci95"] / 1.96 * np.sqrt(row["episodes"])
    same = np.random.default_rng(zlib.crc32(row["episodes_digest"].encode()))
    classes = [same.permutation(60)[: row["ways"] or 1] for _ in accuracy]
    return pd.DataFrame(
        {
            "episode": range(len(accuracy)),
            "score": accuracy,
            "classes": [" ".join(map(str, each)) for each in classes],
            "groups": [" ".join(map(str, each // 3)) for each in classes],
        }
    )


def fits(row: Row) -> pd.DataFrame:
    """Two functions and what the learner makes of them, before adaptation if it has inner steps."""
    found = pd.DataFrame({"x": [0.0, 2.0, 1.0, -1.0], "part": 2 * ["support"] + 2 * ["query"]})
    found["y"], found["after"] = found["x"] ** 2, found["x"]
    found["before"] = 1.0 if row["algo"] == "maml" else np.nan
    return pd.concat([found.assign(task=0), found.assign(task=1, y=-found["y"])])


def folder(root: Path, rows: list[Row]) -> Path:
    """A results folder with these cells."""
    for row in rows:
        cell = root / "runs" / row["cell"]
        cell.mkdir(parents=True)
        (cell / "record.json").write_text(json.dumps(row))
        (cell / "config.yaml").write_text("{}\n")
        if row["status"] == "done":
            curve(row).to_csv(cell / "history.csv", index=False)
            episodes(row).to_csv(cell / "episodes.csv", index=False)
    return root
