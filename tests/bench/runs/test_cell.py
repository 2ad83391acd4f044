"""Cells from end to end, small ones, in this process."""

import json
import math
import time
from functools import partial

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from algorithms.solvers import svm
from bench.core.errors import RunFailedError, UserError
from bench.engine import device as devices
from bench.engine.distributed import ProcessGroup
from bench.engine.evaluate import evaluate
from bench.engine.train import DivergedError, OuterLoop, Training
from bench.runs import cell as cells
from bench.runs import run
from bench.sweep.job import run as attempt
from tests.bench.small import ALGOS

FIRST = "backbone.convolutions.0.weight"
PHASES = ["draw", "train", "evaluate", "adapt", "infer"]


def per_episode(cell: cells.Cell) -> list[float]:
    return pd.read_csv(cell.store.runs / cell.name / "episodes.csv")["score"].tolist()


def checkpoint(cell: cells.Cell) -> dict[str, torch.Tensor]:
    return load_file(cell.store.runs / cell.name / "model.safetensors")


@pytest.mark.parametrize("algo", ALGOS)
def test_a_cell_leaves_a_whole_record_and_repeats_to_the_bit(make, algo):
    cell = make(f"algo={algo}", "algo.test_inner_steps=2" if algo == "reptile" else "ways=5")
    first = run.run(cell)
    accuracies, weights = per_episode(cell), checkpoint(cell)
    assert cell.finished
    assert json.loads(json.dumps(first)) == cell.store.record(cell.name)
    assert len(accuracies) == 12
    assert first["score"] == pytest.approx(sum(accuracies) / 12, abs=1e-9)
    deviation = pd.Series(accuracies).std()
    assert first["ci95"] == pytest.approx(1.96 * deviation / math.sqrt(12), abs=1e-9)
    numbered = pd.read_csv(cell.store.runs / cell.name / "episodes.csv")
    columns = ["episode", "score", "loss", "ece", "brier", "classes", "groups"]
    assert numbered.columns.tolist() == columns
    for measure in ("score", "loss", "brier"):
        assert first[measure] == pytest.approx(numbered[measure].mean(), abs=1e-9)
    assert 0 <= first["ece"] <= numbered["ece"].mean() + 1e-9 <= 100  # more queries, less noise
    assert numbered["classes"].str.split().map(set).map(len).eq(cell.config.ways).all()
    grouped = cell.dataset.splits["test"].grouped.tolist()
    for classes, groups in zip(numbered["classes"], numbered["groups"], strict=True):
        assert groups == " ".join(str(grouped[int(number)]) for number in classes.split())
    assert [row["phase"] for row in first["throughput"]] == PHASES
    assert all(row["tasks_per_s"] > 0 and row["peak_mib"] > 0 for row in first["throughput"])
    history = cell.store.history(cell.name)
    assert history["episodes"].tolist()[-1] == first["train_episodes"]
    assert history["val_score"].max() == pytest.approx(first["val_score"])

    again = run.run(cell)
    assert again["score"] == first["score"]
    assert per_episode(cell) == accuracies
    for name, value in checkpoint(cell).items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0, msg=name)


def test_cells_in_a_row_share_one_reading_of_their_data(make):
    cells.load.cache_clear()
    one, other = make("algo=maml", "seed=1"), make("shots=2")
    assert one.dataset is other.dataset


def test_all_learners_are_tested_on_the_same_episodes_whatever_their_seed(make):
    digests = {
        run.run(make(*overrides))["episodes_digest"]
        for overrides in (["algo=protonet"], ["algo=maml", "seed=1"], ["algo=metaoptnet", "seed=7"])
    }
    assert len(digests) == 1
    assert run.run(make("ways=4"))["episodes_digest"] not in digests


def test_seeds_make_other_runs_and_0_is_one(make):
    weights = {}
    for seed in (0, 1):
        cell = make(f"seed={seed}", "train.examples=120")
        run.run(cell)
        weights[seed] = checkpoint(cell)["backbone.convolutions.1.weight"]
    assert not torch.equal(weights[0], weights[1])


def test_the_name_of_a_cell_is_that_of_its_numbers(make, tmp_path):
    name = make().name
    assert name == make(f"results_dir={tmp_path}/elsewhere", "throughput.seconds=9").name
    others = [make(o).name for o in ("seed=1", "ways=4", "backbone.filters=5", "train.lr=0.1")]
    assert len({name, *others}) == 5
    assert name.startswith("protonet-glyphs-5w1s-seed0-")


def test_the_global_random_state_of_a_host_program_is_untouched(make):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    devices.matmul_gflop_per_s.cache_clear()  # measured once per process
    run.run(make("algo=reptile", "algo.test_inner_steps=1"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_learner_of_classes_is_made_for_all_that_it_is_trained_on(make):
    cell = make("algo=baseline", "algo.test_epochs=1")
    train, val = (len(cell.dataset.splits[split].names) for split in ("train", "val"))
    assert run.run(cell)["status"] == "done"
    both = make("algo=baseline", "train.split=train+val", "validation.times=1")
    for each, classes in ((cell, train), (both, train + val)):
        learner = cells.build_learner(each.config, each.dataset, each.train_setting)
        assert learner.head.out_features == classes


def test_a_cell_computes_with_its_threads(make):
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            cells.build_components(make("algo=protonet", f"threads={threads}"))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def loop_of(cell: cells.Cell) -> tuple[OuterLoop, cells.EpisodeSampler]:
    learner = cells.build_learner(cell.config, cell.dataset, cell.train_setting)
    pools = cell.dataset.splits
    sampler = cells.EpisodeSampler(pools["train"], cell.train_setting, ("train",))
    val = cells.EpisodeSampler(pools["val"], cell.test_setting, ("val",))
    return OuterLoop(learner, sampler, cell.config.train), val


def finish(training: Training, validate, synchronize=lambda: None) -> None:
    for _ in training.run(validate, synchronize):
        pass


@pytest.mark.parametrize("algo", ALGOS)
def test_evaluating_does_not_disturb_training(make, algo):
    ends = []
    for times in (1, 4):
        cell = make(f"algo={algo}", "algo.test_inner_steps=1" if algo == "reptile" else "ways=5")
        loop, val = loop_of(cell)
        validate = partial(evaluate, loop.learner, val, 4, 2)
        finish(Training(loop, times), lambda: validate()["score"])  # noqa: B023
        ends.append(loop.learner.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=0, atol=0, msg=name)


def test_the_best_validation_is_kept_and_the_first_of_equals(make):
    loop, _ = loop_of(make())
    training, given = Training(loop, 4), iter([50.0, 70.0, 60.0, 70.0])
    kept = []
    for _ in training.run(lambda: torch.full((4,), next(given)), lambda: None):
        kept.append((training.best.val_score, training.best.episodes))
    assert kept == [(50, 1), (70, 2), (70, 2), (70, 2)]
    weights = loop.learner.state_dict()
    assert not torch.equal(weights[FIRST], training.best_state[FIRST]), "not the last ones"


def test_validation_is_off_the_training_clock(make, monkeypatch):
    loop, _ = loop_of(make())
    clock = iter(range(0, 1000, 10))
    events: list[str] = []

    class Time:
        @staticmethod
        def perf_counter() -> int:
            events.append("clock")
            return next(clock)

        monotonic, process_time = time.monotonic, time.process_time

    def validate() -> torch.Tensor:
        events.append("validate")
        return torch.zeros(4)

    monkeypatch.setattr("bench.engine.train.time", Time)
    training = Training(loop, 2)
    finish(training, validate, lambda: events.append("synchronize"))
    assert [c.seconds for c in training.history] == [10, 20]
    assert events == 2 * [*2 * ["synchronize", "clock"], "validate"]


def test_schedules_fall_as_they_say(make):
    rates = {}
    for schedule in ("constant", "linear", "cosine", "step"):
        options = ["train.lr=0.5", "train.step_size=2"]
        loop, _ = loop_of(make(f"train.lr_schedule={schedule}", *options))
        rates[schedule] = []
        for _ in range(loop.steps):
            loop.advance()
            rates[schedule].append(float(loop.optimizer.param_groups[0]["lr"]))
        for _ in range(2):  # beyond its end it neither rises again nor turns negative
            loop.advance()
        last = float(loop.optimizer.param_groups[0]["lr"])
        assert last == pytest.approx({"constant": 0.5, "step": 0.125}.get(schedule, 0))
    assert rates["constant"] == [0.5] * 4
    assert rates["step"] == [0.5, 0.5, 0.25, 0.25]
    assert rates["linear"] == pytest.approx([0.5, 0.375, 0.25, 0.125])
    assert rates["cosine"] == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    )


def test_a_row_tells_how_many_test_tasks_were_not_solved(make, caplog, monkeypatch):
    cell = make("algo=metaoptnet")
    assert run.run(cell)["unsolved_tasks"] == 0
    assert "not solved" not in caplog.text
    monkeypatch.setattr(svm, "ITERATIONS", 1)
    record = run.run(cell)
    assert record["unsolved_tasks"] == cell.config.test.episodes == 12
    assert cell.store.record(cell.name) == record
    assert "12 of 12 test tasks were not solved" in caplog.text
    assert caplog.text.count("not solved") == 1


def test_a_row_is_silent_about_solving_where_nothing_is_checked(make):
    assert "unsolved_tasks" not in run.run(make("algo=metaoptnet_rr"))


def test_a_diverging_training_is_a_failed_record(make):
    cell = make("train.optimizer=sgd", "train.lr=1e38")
    with pytest.raises(
        DivergedError, match=r"nan at step \d of 4; the last finite one was \d"
    ) as why:
        run.run(cell)
    assert "a lower train.lr" in str(why.value)
    assert cell.store.record(cell.name) is None
    record = run.fail(cell, str(why.value))
    assert cell.store.record(cell.name) == record
    assert (record["status"], record["reason"], cell.finished) == ("failed", str(why.value), False)


class Full:
    """Memory for so many tasks together, in calls that are counted."""

    def __init__(self, tasks: int, work) -> None:
        self.tasks, self.work, self.refused = tasks, work, 0

    def __call__(self, *parts):
        if len(parts[0]) > self.tasks:
            self.refused += 1
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return self.work(*parts)


def test_a_step_out_of_memory_is_done_in_smaller_chunks(make, caplog):
    ends = []
    for memory in (8, 2):
        loop, _ = loop_of(make("algo=maml", "train.meta_batch=4"))
        loop.learner.adapt = Full(memory, loop.learner.adapt)
        for _ in range(loop.steps):
            loop.advance()
        ends.append({k: v.clone() for k, v in loop.learner.state_dict().items()})
    assert loop.learner.chunk_size == 2
    assert [m for m in caplog.messages if "Out of memory" in m] == [
        "Out of memory: trained in chunks of 2 tasks from now on"
    ]
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], msg=name)
    loop.learner.adapt.tasks = 1
    loop.advance()
    assert loop.learner.chunk_size == 1
    loop.learner.adapt.tasks = 0
    with pytest.raises(
        RunFailedError, match="one training task does not fit into memory: fewer train.ways"
    ):
        loop.advance()


def test_an_evaluation_out_of_memory_takes_fewer_at_once(make):
    loop, val = loop_of(make("algo=protonet"))
    expected = evaluate(loop.learner, val, 12, 8)["score"]
    loop.learner.forward = full = Full(3, loop.learner.forward)
    assert torch.equal(evaluate(loop.learner, val, 12, 8)["score"], expected)
    assert full.refused == 2
    full.tasks = 0
    with pytest.raises(RunFailedError, match="one test task does not fit into memory"):
        evaluate(loop.learner, val, 12, 8)


def test_other_errors_are_not_taken_for_a_lack_of_memory(make):
    loop, val = loop_of(make("algo=protonet"))

    def broken(*_):
        raise RuntimeError("shapes do not fit")

    loop.learner.forward = broken
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        loop.advance()
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        evaluate(loop.learner, val, 4, 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ways=200"], r"In the val split of glyphs, ways=200 is more than the \d+ classes"),
        (
            ["shots=8"],
            r"In the train split of glyphs, shots=8 plus queries=5 is 13 examples a class",
        ),
        (["algo=maml", "train.ways=7"], r"maml cannot be trained like that: .* 5 ways"),
        (["algo=reptile", "train.shots=5", "train.queries=1"], r"train.queries must be 0"),
        (["train.queries=0"], r"train.queries must be at least 1"),
        (["device=cuda"], r"device=cuda was asked for"),
        (["algo=maml", "algo.inner_steps=one"], r"algo.inner_steps=one is invalid"),
    ],
)
def test_mistakes_are_told_before_any_work(make, tmp_path, overrides, message):
    if overrides == ["device=cuda"] and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match=message) as caught:
        make(*overrides)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "results").rglob("record.json"))


def test_rows_name_neither_machine_nor_user_nor_folder(make, tmp_path):
    import getpass
    import socket

    cell = make()
    run.run(cell)
    for path in (cell.store.runs / cell.name).iterdir():
        if path.suffix in (".json", ".csv", ".yaml"):
            text = path.read_text()
            assert str(tmp_path) not in text
            assert socket.gethostname() not in text
            assert f"/{getpass.getuser()}/" not in text


def test_a_learner_that_knows_the_query_labels_by_their_places_fails(make):
    cell = make("algo.name=cheat", "algo.target=tests.planted.Peeking")
    with pytest.raises(RunFailedError, match="its predictions depend on the places of the queries"):
        run.run(cell)
    assert cell.store.record(cell.name) is None


def test_a_learner_whose_predictions_are_no_numbers_is_told_so(make):
    cell = make("algo.name=dividing", "algo.target=tests.planted.Dividing", "shots=1")
    with pytest.raises(RunFailedError, match="a prediction of a validation episode is NaN"):
        run.run(cell)


def test_a_data_set_with_an_image_in_two_splits_is_refused(make):
    with pytest.raises(UserError) as caught:
        make("dataset.name=leaky", "dataset.target=tests.planted.leaky")
    assert str(caught.value) == (
        "The data set leaky cannot be used: 1 examples are in more than one split, expected 0; they are "
        "U+0042 LATIN CAPITAL LETTER B no. 0 (train) = U+0047 LATIN CAPITAL LETTER G no. 0 (test)."
    )


def test_a_damaged_record_is_refused_unless_it_is_to_be_overwritten(make):
    cell = make()
    (cell.store.runs / cell.name).mkdir(parents=True)
    (cell.store.runs / cell.name / "record.json").write_text("{")
    with pytest.raises(
        UserError, match="is damaged .*: move it away, or run the cell again with over"
    ):
        make()
    assert make("overwrite=true").name == cell.name


def test_a_backbone_that_memory_does_not_hold_is_a_mistake(make, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("algorithms.backbones.conv4.Conv2d", refused)
    with pytest.raises(
        UserError, match="^conv4 does not fit into memory; choose a smaller backbone.$"
    ):
        make()


def test_a_forecast_is_for_one_process(make, monkeypatch):
    monkeypatch.setattr(cells, "process_group", lambda: ProcessGroup(0, 2))
    with pytest.raises(UserError, match="dry_run=true estimates the time of one process"):
        make("dry_run=true", "train.meta_batch=2")


def test_what_cannot_share_its_tasks_alone_trains_in_one_process(make, monkeypatch):
    monkeypatch.setattr("algorithms.protonet.ProtoNet.supports_data_parallel", False)
    assert make("train.meta_batch=2").config.train.examples
    monkeypatch.setattr(cells, "process_group", lambda: ProcessGroup(0, 2))
    with pytest.raises(UserError, match="takes tasks one after the other, in one process"):
        make("train.meta_batch=2")


def test_a_failed_cell_is_run_again_on_request_alone(make, capsys):
    failing = ["train.optimizer=sgd", "train.lr=1e38"]
    first = attempt(make(*failing))
    assert (
        first["status"] == "failed"
        and " failed: the training loss became" in capsys.readouterr().err
    )
    assert attempt(make(*failing)) == first
    assert "failed before: the training loss became" in capsys.readouterr().out
    for request in ("retry_failed=true", "overwrite=true"):
        assert attempt(make(*failing, request))["status"] == "failed"
        assert " failed: the training loss became" in capsys.readouterr().err


def test_an_error_in_a_learner_is_a_failed_record_too(make, monkeypatch, capsys):
    cell = make()
    monkeypatch.setattr(run, "evaluate", lambda *_: 1 / 0)
    record = attempt(cell)
    assert (record["status"], record["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    assert "Traceback" in capsys.readouterr().err, "for whoever mends it"
