"""What older versions stored is read as this version would have written it."""

import inspect
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
]


@pytest.mark.parametrize(("folder", "cell"), OLD)
def test_stored_runs_of_schema_1(folder: Path, cell: str) -> None:
    store = Store(folder)
    before = json.loads((folder / "runs" / cell / "record.json").read_text())
    assert before["schema"] == 1
    record = store.record(cell)
    assert record is not None and record["schema"] == migrate.SCHEMA
    assert record["backbone_options"] == before["backbone_options"] | {"spatial": "flatten"}
    assert record["deterministic"] is False
    assert record["momentum"] == 0 and record["augmentation"] == "none"
    new = {"schema", "backbone_options", "deterministic", *migrate.RECIPE_SINCE_4}
    assert {k: v for k, v in record.items() if k not in new} == {
        k: v for k, v in before.items() if k not in new
    }
    command = dict.fromkeys(config.OF_THE_COMMAND, False)
    folders = dict.fromkeys(("data_root", "cache_dir")) | {"results_dir": "."}
    options = config.Config.model_validate(store.config(cell) | command | folders)
    for group in ("algo", "backbone", "dataset"):
        config.check_options(getattr(options, group), group)
    if options.dataset.name == "omniglot":
        assert options.dataset.options["rotations"] == "all"


def test_stored_runs_of_schema_2() -> None:
    folder = REFERENCE / "transduction-cpu"
    store = Store(folder)
    for run in (folder / "runs").iterdir():
        assert store.written(run.name)["schema"] == 2
        assert store.record(run.name) == store.written(run.name) | {
            "schema": migrate.SCHEMA,
            "deterministic": False,
            "train_split": "train",
            "momentum": 0.0,
            "weight_decay": 0.0,
            "label_smoothing": 0.0,
            "augmentation": "none",
        }
        assert store.config(run.name)["deterministic"] is False


def test_stored_runs_of_schema_3() -> None:
    row = {"schema": 3, "backbone": "conv4", "backbone_options": {}, "deterministic": True}
    assert migrate.record(row) == row | {"schema": migrate.SCHEMA} | migrate.RECIPE_SINCE_4
    options = {"deterministic": True, "train": {"rate": 0.1, "halving_steps": 7}}
    migrated = migrate.config(options, 3)
    assert migrated["deterministic"] is True
    assert migrated["train"] == options["train"] | migrate.TRAIN_SINCE_4


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


def test_what_runs_of_this_schema_may_leave_out_is_what_the_code_means_by_that() -> None:
    for target, left_out in migrate.UNSTATED.items():
        code = config.Code(name="x", target=target).resolve()
        defaults = {name: p.default for name, p in inspect.signature(code).parameters.items()}
        assert left_out.items() <= defaults.items()


def test_the_configuration_of_a_run_that_leaves_something_out() -> None:
    maml = {"target": "algorithms.maml.MAML", "inner_steps": 1}
    now = {"algo": maml | {"adapts": "all"}, "ways": 5}
    assert migrate.unstated(now) == {"algo": maml, "ways": 5}
    for algo in (maml | {"adapts": "head"}, {"target": "other", "adapts": "all"}):
        assert migrate.unstated({"algo": algo}) == {"algo": algo}
