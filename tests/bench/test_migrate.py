"""What older versions stored is read as this version would have written it."""

import json
from pathlib import Path

import pytest

from bench import config, migrate
from bench.store import Store

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
OLD = [
    (REFERENCE / name, run.name)
    for name in ("omniglot-cpu", "saturation-cpu")
    for run in (REFERENCE / name / "runs").iterdir()
    if Store(REFERENCE / name).written(run.name)["schema"] == 1
]

MORE = {
    "maml": {"adapts": "all"},
    "protonet": {"initial_scale": None},
    "reptile": {"update": "all_steps"},
}
UNSET = ("data_root", "cache_dir", "threads", "tune", "tuned", "logger", "until")


@pytest.mark.parametrize(("folder", "cell"), OLD)
def test_stored_runs_of_schema_1(folder: Path, cell: str) -> None:
    store = Store(folder)
    before = json.loads((folder / "runs" / cell / "record.json").read_text())
    assert before["schema"] == 1
    record = store.record(cell)
    assert record is not None and record["schema"] == migrate.SCHEMA
    assert record["backbone_options"] == before["backbone_options"] | {
        "spatial": "flatten",
        "init": "torch",
        "norm_eps": 1e-5,
    }
    assert record["deterministic"] is False
    assert record["momentum"] == 0 and record["augmentation"] == "none"
    assert record["clip_value"] is None
    assert record["algo_options"] == before["algo_options"] | MORE.get(record["algo"], {})
    new = {"schema", "backbone_options", "deterministic", "algo_options", "clip_value"}
    new |= set(migrate.RECIPE_SINCE_4)
    assert {k: v for k, v in record.items() if k not in new} == {
        k: v for k, v in before.items() if k not in new
    }
    command = dict.fromkeys(config.OF_THE_COMMAND, False)
    folders = dict.fromkeys(UNSET) | {"results_dir": ".", "floors": []}
    options = config.Config.model_validate(store.config(cell) | command | folders)
    for group in ("algo", "backbone", "dataset"):
        config.check_options(getattr(options, group), group)
    if options.dataset.name == "omniglot":
        assert options.dataset.options["rotations"] == "all"


def test_stored_runs_of_schema_2() -> None:
    row = {"schema": 2, "algo": "maml", "algo_options": {"inner_steps": 1}}
    row |= {"backbone": "conv4", "backbone_options": {"filters": 32, "spatial": "flatten"}}
    assert migrate.record(row) == row | migrate.RECIPE_SINCE_4 | {
        "schema": migrate.SCHEMA,
        "deterministic": False,
        "clip_value": None,
        "algo_options": {"inner_steps": 1, "adapts": "all"},
        "backbone_options": row["backbone_options"] | {"init": "torch", "norm_eps": 1e-5},
    }
    options = {
        "algo": {"name": "maml"},
        "backbone": {"name": "conv4", "filters": 32, "spatial": "flatten"},
        "dataset": {"name": "omniglot", "rotations": "train"},
        "train": {"rate": 0.1},
    }
    assert migrate.config(options, 2)["deterministic"] is False


def test_stored_runs_of_schema_3() -> None:
    row = {"schema": 3, "algo": "maml", "algo_options": {"inner_steps": 1}, "deterministic": True}
    row |= {"backbone": "resnet12", "backbone_options": {"filters": 64}}
    assert migrate.record(row) == row | migrate.RECIPE_SINCE_4 | {
        "schema": migrate.SCHEMA,
        "clip_value": None,
        "algo_options": {"inner_steps": 1, "adapts": "all"},
        "backbone_options": {"filters": 64, "drop_rate": 0.0, "drop_block": 2, "drop_steps": 20000},
    }
    options = {
        "deterministic": True,
        "algo": {"name": "maml"},
        "backbone": {"name": "resnet12", "filters": 64},
        "dataset": {"name": "omniglot", "rotations": "train"},
        "train": {"rate": 0.1, "halving_steps": 7},
    }
    assert migrate.config(options, 3) == options | {
        "algo": {"name": "maml", "adapts": "all"},
        "backbone": options["backbone"] | migrate.RESNET12_SINCE_4,
        "train": options["train"] | migrate.TRAIN_SINCE_4 | {"clip_value": None},
    }


def test_stored_runs_of_schema_4() -> None:
    row = {"schema": 4, "algo": "protonet", "algo_options": {}, "momentum": 0.9}
    row |= {"backbone": "conv4_wide", "backbone_options": {"filters": 64}}
    assert migrate.record(row) == row | {
        "schema": migrate.SCHEMA,
        "clip_value": None,
        "algo_options": {"initial_scale": None},
        "backbone_options": {"filters": 64, "widths": "rising"},
    }
    options = {
        "algo": {"name": "reptile"},
        "backbone": {"name": "conv4", "filters": 64},
        "dataset": {"name": "omniglot"},
        "train": {"rate": 0.1, "momentum": 0.9},
    }
    assert migrate.config(options, 4) == options | {
        "algo": {"name": "reptile", "update": "all_steps"},
        "backbone": options["backbone"] | {"init": "torch", "norm_eps": 1e-5},
        "train": options["train"] | {"clip_value": None},
    }


def test_rows_of_this_and_of_newer_versions_are_as_they_were() -> None:
    for schema in (migrate.SCHEMA, migrate.SCHEMA + 1):
        row = {"schema": schema, "backbone": "conv4", "backbone_options": {}, "unknown": 1}
        assert migrate.record(row) == row
        assert migrate.config({"new": 1}, schema) == {"new": 1}


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "some-cell"
    run.mkdir(parents=True)
    (run / "record.json").write_text('{"schema": 1}')
    for text in ("train: [", "{}", "[1]"):
        (run / "config.yaml").write_text(text)
        with pytest.raises(ValueError, match="^some-cell/config.yaml cannot be read"):
            Store(tmp_path).config("some-cell")
