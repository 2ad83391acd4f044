"""What older versions stored, brought up to date when it is read."""

from typing import Any

SCHEMA = 3
"""The version of records and configurations that is written."""

CONV4_SINCE_2 = {"spatial": "flatten"}


def record(row: dict[str, Any]) -> dict[str, Any]:
    """A stored record as this version would write it; one of this or a newer version is as it was."""
    if row.get("schema", SCHEMA) >= SCHEMA:
        return row
    if row["schema"] < 2 and row["backbone"] == "conv4":
        row = row | {"backbone_options": row["backbone_options"] | CONV4_SINCE_2}
    return row | {"deterministic": False, "schema": SCHEMA}


def config(options: dict[str, Any], schema: int) -> dict[str, Any]:
    """A stored configuration, of a run whose record has this ``schema``, likewise."""
    if schema >= SCHEMA:
        return options
    options = options | {"deterministic": False}
    if schema == 2:
        return options
    options = options | {"train": options["train"] | {"halving_steps": 2000}}
    if options["backbone"]["name"] == "conv4":
        options["backbone"] = options["backbone"] | CONV4_SINCE_2
    if options["dataset"]["name"] == "omniglot":
        turned = {True: "all", False: "none"}[options["dataset"]["rotations"]]
        options["dataset"] = options["dataset"] | {"rotations": turned}
    return options
