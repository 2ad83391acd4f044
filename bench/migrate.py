"""What older versions stored, brought up to date when it is read."""

from typing import Any

SCHEMA = 5
"""The version of records and configurations that is written."""

CONV4_SINCE_2 = {"spatial": "flatten"}
DETERMINISTIC_SINCE_3 = {"deterministic": False}
RECIPE_SINCE_4 = {
    "train_split": "train",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "augmentation": "none",
}
TRAIN_SINCE_4 = {
    "split": "train",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "step_at": [],
    "step_factors": [],
    "label_smoothing": 0.0,
    "crop_padding": 0,
    "flip": False,
    "jitter": 0.0,
}
MAML_SINCE_4 = {"adapts": "all"}
CLIP_SINCE_5 = {"clip_value": None}
OPTIONS_SINCE_5: dict[str, dict[str, Any]] = {
    "protonet": {"initial_scale": None},
    "reptile": {"update": "all_steps"},
    "conv4": {"init": "torch", "norm_eps": 1e-5},
    "conv4_wide": {"widths": "rising"},
}
RESNET12_SINCE_4 = {"drop_rate": 0.0, "drop_block": 2, "drop_steps": 20000}


def record(row: dict[str, Any]) -> dict[str, Any]:
    """A stored record as this version would write it; one of this or a newer version is as it was."""
    schema = row.get("schema", SCHEMA)
    if schema >= SCHEMA:
        return row
    if schema < 2 and row["backbone"] == "conv4":
        row = row | {"backbone_options": row["backbone_options"] | CONV4_SINCE_2}
    if schema < 3:
        row = row | DETERMINISTIC_SINCE_3
    if schema < 4:
        if row["algo"] == "maml":
            row = row | {"algo_options": row["algo_options"] | MAML_SINCE_4}
        if row["backbone"] == "resnet12":
            row = row | {"backbone_options": row["backbone_options"] | RESNET12_SINCE_4}
        row = row | RECIPE_SINCE_4
    return row | {
        "algo_options": row["algo_options"] | OPTIONS_SINCE_5.get(row["algo"], {}),
        "backbone_options": row["backbone_options"] | OPTIONS_SINCE_5.get(row["backbone"], {}),
        **CLIP_SINCE_5,
        "schema": SCHEMA,
    }


def config(options: dict[str, Any], schema: int) -> dict[str, Any]:
    """A stored configuration, of a run whose record has this ``schema``, likewise."""
    if schema >= SCHEMA:
        return options
    algo, backbone, dataset = (options[group] for group in ("algo", "backbone", "dataset"))
    train = options["train"]
    if schema < 2:
        train = train | {"halving_steps": 2000}
        if backbone["name"] == "conv4":
            backbone = backbone | CONV4_SINCE_2
        if dataset["name"] == "omniglot":
            turned = {True: "all", False: "none"}[dataset["rotations"]]
            dataset = dataset | {"rotations": turned}
    if schema < 3:
        options = options | DETERMINISTIC_SINCE_3
    if schema < 4:
        if algo["name"] == "maml":
            algo = algo | MAML_SINCE_4
        if backbone["name"] == "resnet12":
            backbone = backbone | RESNET12_SINCE_4
        train = train | TRAIN_SINCE_4
    train = train | CLIP_SINCE_5
    algo = algo | OPTIONS_SINCE_5.get(algo["name"], {})
    backbone = backbone | OPTIONS_SINCE_5.get(backbone["name"], {})
    return options | {"algo": algo, "backbone": backbone, "dataset": dataset, "train": train}
