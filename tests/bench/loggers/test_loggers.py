"""Loggers: what they write can be read again by their own readers, and none makes a cell fail."""

import json
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench import loggers
from bench.config.schema import Component
from bench.core.errors import PeerLostError, RunFailedError, UserError
from bench.runs import cell as cells
from bench.runs import run as running

ENGINES = ("tensorboard", "wandb", "mlflow")
BLOCK = 2**15


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def expected(cell: cells.Cell, record: dict) -> dict[str, list[tuple[int, float]]]:
    """Every fact that a log must hold, by the training episodes it is from."""
    history = cell.store.history(cell.name).to_dict("records")
    facts = {name: [(row["episodes"], row[name]) for row in history]
             for name in history[0] if name != "episodes"}  # fmt: skip
    end = history[-1]["episodes"]
    facts |= {f"test_{name}": [(end, record[name])] for name in ("score", "ci95", "loss")}
    phases = {each["phase"]: each["tasks_per_s"] for each in record["throughput"]}
    return facts | {f"{phase}_tasks_per_s": [(end, speed)] for phase, speed in phases.items()}


def of_tensorboard(logs: Path, cell: str) -> tuple[dict, dict]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logs / "tensorboard" / cell)).Reload()
    found = {name: [(each.step, each.value) for each in events.Scalars(name)]
             for name in events.Tags()["scalars"]}  # fmt: skip
    (summary,) = {
        data.content
        for tag, data in events.summary_metadata.items()
        for data in [data.plugin_data]
        if tag == "_hparams_/session_start_info"
    }
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    options = HParamsPluginData.FromString(summary).session_start_info.hparams
    return found, {key: value.string_value or value.number_value for key, value in options.items()}


def of_mlflow(logs: Path, cell: str) -> tuple[dict, dict]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{logs / 'mlflow.db'}")
    number = client.get_experiment_by_name("fewshot-bench").experiment_id
    (run,) = client.search_runs([number])
    assert run.info.run_name == cell and run.info.status == "FINISHED"
    found = {name: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
             for name in run.data.metrics}  # fmt: skip
    return found, run.data.params


def of_wandb(logs: Path, cell: str) -> tuple[dict, dict]:
    import wandb

    wandb.teardown()  # its process has then written all
    (file,) = (logs / "wandb").glob("offline-run-*/*.wandb")
    found: dict = {}
    options: dict = {}
    summary: dict = {}
    for record in records_of(file.read_bytes()):
        if record.HasField("run"):
            assert record.run.display_name == cell
            options |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
        if record.HasField("history"):
            facts = {i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
            for name, value in facts.items():
                found.setdefault(name, []).append((facts["_step"], value))
        summary |= {item.key: json.loads(item.value_json) for item in record.summary.update}
    end = found["val_score"][-1][0]
    found |= {name: [(end, value)] for name, value in summary.items() if name not in found}
    return found, options


def records_of(data: bytes) -> Iterator[Any]:
    """What is in a .wandb file: a head of 7 bytes, then the blocks of LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    assert data.startswith(b":W&B")
    at, whole = 7, b""
    while at < len(data):
        if (left := BLOCK - at % BLOCK) < 7:  # too short for a head
            at += left
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # the only part of a record, or the last one
            yield Record.FromString(whole)
            whole = b""


@pytest.mark.parametrize(
    "engine",
    [pytest.param(e, marks=[pytest.mark.slow] * (e != "tensorboard")) for e in ENGINES],
)
def test_what_is_logged_can_be_read_again(make, engine):
    pytest.importorskip(engine)
    cell = make(f"logger={engine}")
    assert cell.name == make().name, "a log changes no cell"
    loggers.check(cell.config.logger)
    record = running.run(cell)
    logs = cell.store.root / "logs"
    found, options = globals()[f"of_{engine}"](logs, cell.name)
    for name, points in expected(cell, record).items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        values = [value for _, value in points]
        assert [value for _, value in found[name]] == pytest.approx(values, rel=1e-5), name
    assert options["algo.name"] == "protonet" and float(options["train.lr"]) == 0.005
    assert "results_dir" not in options


class Broken:
    """A logger of which nothing works, or that takes its time."""

    def __init__(self, folder, cell, options, after, *, waits: bool) -> None:
        if waits:
            time.sleep(30)
        raise OSError("no space\nleft")


@pytest.mark.parametrize(("waits", "why"), [(False, "no space"), (True, "it does not answer")])
def test_a_logger_that_fails_is_told_of_once_and_fails_no_cell(
    make, capsys, monkeypatch, waits, why
):
    monkeypatch.setattr(loggers, "PATIENCE", 0.1)
    cell = make()
    broken = Component(name="broken", target=f"{__name__}.Broken", waits=waits)
    monkeypatch.setattr(Component, "resolve", lambda code, whole=Component.resolve: (
        Broken if code.name == "broken" else whole(code)))  # fmt: skip
    object.__setattr__(cell.config, "logger", broken)
    assert running.run(cell)["status"] == "done"
    assert capsys.readouterr().err.count(f"{cell.name} is logged by broken no more: {why}\n") == 1


class Told:
    """A logger that only remembers how it ended."""

    ends: ClassVar[list[bool]] = []

    def __init__(self, folder, cell, options, after) -> None: ...

    def validation(self, episodes, found) -> None: ...

    def result(self, found) -> None: ...

    def close(self, failed: bool) -> None:
        Told.ends.append(failed)


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (None, False),
        (RunFailedError("x"), True),
        (KeyboardInterrupt(), False),
        (PeerLostError("x"), False),
    ],
)
def test_a_logger_is_told_of_failures_alone(make, monkeypatch, error, failed):
    cell = make()
    monkeypatch.setattr(Component, "resolve", lambda code: Told)
    object.__setattr__(cell.config, "logger", Component(name="told", target="told"))
    Told.ends.clear()
    told = pytest.raises(type(error)) if error else nullcontext()
    with told, loggers.Log(cell.config, cell.name) as log:
        log._do(0, lambda logger: logger.result({}))
        if error:
            raise error
    assert Told.ends == [failed]


@pytest.mark.slow
def test_in_mlflow_a_cell_that_begins_anew_has_a_run_of_its_own(make):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    from bench.engine.train import ValidationPoint

    cell = make("logger=mlflow")
    history = [ValidationPoint(n, n / 10, 1 / n, 50.0, 40.0 + n, 1.0) for n in (10, 20)]
    for end in (RunFailedError("x"), KeyboardInterrupt()):
        with suppress(type(end)), loggers.Log(cell.config, cell.name) as log:
            log.validation(history[:1])
            raise end
    with suppress(KeyboardInterrupt), loggers.Log(cell.config, cell.name) as again:
        again.validation(history)
        raise KeyboardInterrupt
    with loggers.Log(cell.config, cell.name) as killed:
        killed.validation(history)  # as it was not saved before the kill
        killed.validation([*history, replace(history[1], episodes=30)])
    client = MlflowClient(f"sqlite:///{cell.store.root / 'logs' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("fewshot-bench").experiment_id])
    steps = [[each.step for each in client.get_metric_history(run.info.run_id, "val_score")]
             for run in reversed(runs)]  # fmt: skip
    assert steps == [[10], [10, 20, 30]], "from old to new"


@pytest.mark.parametrize("says", ["database is locked", ""])
def test_a_logger_that_failed_once_is_closed_all_the_same(make, monkeypatch, capsys, says):
    def fails(*_):
        raise OSError(says)

    cell = make()
    monkeypatch.setattr(Component, "resolve", lambda code: Told)
    monkeypatch.setattr(Told, "validation", fails)
    object.__setattr__(cell.config, "logger", Component(name="told", target="told"))
    Told.ends.clear()
    with loggers.Log(cell.config, cell.name) as log:
        for _ in range(2):
            log._do(0, lambda logger: logger.validation(1, {}))
    assert Told.ends == [False]
    assert capsys.readouterr().err.endswith(f" no more: {says or 'OSError'}\n")


def test_wandb_asks_for_no_login_in_the_middle_of_a_cell(make, monkeypatch, capsys):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr(wandb, "login", lambda prompt: prompt)
    cell = make("logger=wandb", "logger.mode=online")
    assert running.run(cell)["status"] == "done"
    assert "no more: wandb login comes first" in capsys.readouterr().err


def test_a_logger_of_another_package_is_not_sought_among_our_extras():
    code = Component(name="theirs", target="nowhere.Logger")
    with pytest.raises(
        UserError, match="'theirs' cannot be loaded from 'nowhere.Logger': No module"
    ):
        loggers.check(code)


def test_a_cell_that_goes_on_is_logged_in_its_run(make):
    """The second validation is logged twice, as by a cell that was killed before it was saved."""
    pytest.importorskip("tensorboard")
    from bench.engine.train import ValidationPoint
    from bench.loggers.tensorboard import TensorBoard

    cell = make("logger=tensorboard")
    history = [ValidationPoint(n, n / 10, 1 / n, 50.0, 40.0 + n, 1.0) for n in (10, 20, 30)]
    first = loggers.Log(cell.config, cell.name)
    first.validation(history[:1])
    first.validation(history[:2])
    assert isinstance(first._logger, TensorBoard)
    with loggers.Log(cell.config, cell.name) as again:
        again.validation(history[:2])
        again.validation(history)
    found, _ = of_tensorboard(cell.store.root / "logs", cell.name)
    assert found["val_score"] == [(10, 50.0), (20, 60.0), (30, 70.0)]


def test_a_logger_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "bench.loggers.wandb", raising=False)
    code = Component(name="wandb", target="bench.loggers.wandb.WandB", project="p")
    with pytest.raises(
        UserError, match=r"^logger=wandb needs the package wandb: pip install '\.\[wandb"
    ):
        loggers.check(code)
