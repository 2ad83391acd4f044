"""What older versions stored, brought up to date when it is read."""

from typing import Any

SCHEMA = 4
"""The version of records and configurations that is written."""

CONV4_SINCE_2 = {"spatial": "flatten"}
RECIPE_SINCE_4 = {"train_split": "train", "momentum": 0.0, "weight_decay": 0.0}
RECIPE_SINCE_4 |= {"label_smoothing": 0.0, "augmentation": "none"}
TRAIN_SINCE_4 = {"split": "train", "momentum": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0}
TRAIN_SINCE_4 |= {
    "step_at": [],
    "step_factors": [],
    "crop_padding": 0,
    "flip": False,
    "jitter": 0.0,
}

UNSTATED = {"algorithms.maml.MAML": {"adapts": "all"}}
"""Options that runs of this ``SCHEMA`` may leave out, and what code and configurations mean by that."""


def record(row: dict[str, Any]) -> dict[str, Any]:
    """A stored record as this version would write it; one of this or a newer version is as it was."""
    if row.get("schema", SCHEMA) >= SCHEMA:
        return row
    if row["schema"] < 2 and row["backbone"] == "conv4":
        row = row | {"backbone_options": row["backbone_options"] | CONV4_SINCE_2}
    if row["schema"] < 3:
        row = row | {"deterministic": False}
    return row | RECIPE_SINCE_4 | {"schema": SCHEMA}


def config(options: dict[str, Any], schema: int) -> dict[str, Any]:
    """A stored configuration, of a run whose record has this ``schema``, likewise."""
    if schema >= SCHEMA:
        return options
    options = options | {"train": options["train"] | TRAIN_SINCE_4}
    if schema < 3:
        options = options | {"deterministic": False}
    if schema >= 2:
        return options
    options = options | {"train": options["train"] | {"halving_steps": 2000}}
    if options["backbone"]["name"] == "conv4":
        options["backbone"] = options["backbone"] | CONV4_SINCE_2
    if options["dataset"]["name"] == "omniglot":
        turned = {True: "all", False: "none"}[options["dataset"]["rotations"]]
        options["dataset"] = options["dataset"] | {"rotations": turned}
    return options


def unstated(options: dict[str, Any]) -> dict[str, Any]:
    """A configuration of this version, as runs that leave out `UNSTATED` options have stored it."""
    algo = options["algo"]
    meant = UNSTATED.get(algo["target"], {}).items()
    return options | {"algo": {key: v for key, v in algo.items() if (key, v) not in meant}}
