"""Laws of the runner: what it trains on, chooses by and tests, as `tests.bench.recording` sees it.

They hold for all learners and kinds of data sets, whatever the parts of the runner are called.
"""

import io
import json
import re
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from typing import Any

import hydra
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load, load_file

from algorithms.learner import Setting
from bench.config import groups, schema
from bench.config.plugins import CONF
from bench.config.schema import Config
from bench.core.errors import PeerLostError, RunFailedError
from bench.engine import throughput
from bench.engine.distributed import ProcessGroup
from bench.engine.evaluate import depends_on_query_order, evaluate
from bench.engine.train import OuterLoop, Training
from bench.runs import cell as cells
from bench.runs import run
from bench.runs.cell import training_digest
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Dataset, Pool
from tests.bench.recording import Recording, Scripted, digest, marked, recording
from tests.bench.small import PLAIN
from tests.choices import OF_CLASSES

TINY = [
    "device=cpu", "backbone=mlp", "backbone.hidden=4", "throughput.seconds=0.001",
    "ways=3", "shots=1", "queries=2", "train.ways=null", "train.shots=2", "train.meta_batch=2",
    "train.examples=280", "validation.times=3", "validation.episodes=4", "test.episodes=5",
]  # fmt: skip
SCRIPTED = {"queries": 4, "optimizer": "sgd", "lr": 1.0, "lr_schedule": "constant"}
# A step is 2 tasks of 3 ways and 2 + 4 images: 36 images, of which the budget has 280.
RISING_AND_FALLING = "002266664"
QUICK = {
    "baseline": ["algo.test_epochs=2"],
    "baselinepp": ["algo.test_epochs=2"],
    "reptile": ["algo.test_inner_steps=2"],
}
KINDS = ("train", "predict")
DATA = {
    "grey": marked(),
    "colour": marked(channels=3),
    "classes of many sizes": marked(images=(7, 9, 30)),
    "many classes": marked(classes=(40, 7, 11)),
    "few classes": marked(classes=(3, 3, 3)),
    "turned": marked(turned=("train", "val", "test")),
    "turned in training": marked(turned=("train",)),
    "images in several splits": replace(marked(), expected_duplicates=3),
}


@cache
def composed(*overrides: str) -> Config:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return schema.from_hydra(hydra.compose("config", [*TINY, *overrides]))


def configured(tmp_path, *overrides: str, **changes: Any) -> Config:
    """A tiny cell with other options; a ``script`` makes its learner a scripted one."""
    made = composed(*overrides).model_dump() | {"results_dir": f"{tmp_path}/results"}
    if "script" in changes:
        own = {key: changes.pop(key) for key in ("script", "numberless") if key in changes}
        target = "tests.bench.recording.Scripted"
        made["algo"] = {"name": "scripted", "target": target, **own}
        made["train"] |= SCRIPTED
    for group in ("train", "validation"):
        made[group] |= changes.pop(group, {})
    return Config.model_validate(made | changes)


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """What the machine and git have to say is of no interest, and takes long to find out."""
    monkeypatch.setattr(throughput, "matmul_gflop_per_s", lambda *_: 1.0)
    monkeypatch.setattr(throughput, "reset_peak_memory", lambda *_: None)
    monkeypatch.setattr(throughput, "LEAST_CALLS", 1)
    monkeypatch.setattr(cells, "EVAL_BATCH_SIZE", {"cpu": 2})  # an evaluation takes several draws
    monkeypatch.setattr("bench.runs.protocol.commit", lambda: None)
    monkeypatch.setattr("bench.runs.protocol.packages", lambda _: [])


@pytest.fixture
def small(tmp_path):
    """Check a cell on a marked data set."""

    def cell(*overrides: str, data: Dataset = DATA["grey"], **changes: object) -> cells.Cell:
        return cells.check(configured(tmp_path, *overrides, **changes), data)

    return cell


def seen_of(cell: cells.Cell) -> Recording:
    """Run a cell, and tell what it did."""
    with recording(cell.config.algo.resolve()) as noted:
        run.run(cell)
    return noted


def in_all(shape: Setting) -> tuple[int, ...]:
    """Ways, shots, and the queries of all ways."""
    return shape.ways, shape.shots, shape.ways * shape.queries


def check_laws(cell: cells.Cell, noted: Recording) -> None:
    """What holds for every finished run."""
    plan, times = cell.config.train, cell.config.validation.times
    images = plan.meta_batch * cell.train_setting.ways * sum(cell.train_setting[1:])
    steps = -(-plan.examples // images)
    trained, answers = noted.of("train"), noted.of("predict")
    if not plan.examples:
        check_laws_without_training(cell, noted)
        return

    # Training: on its split alone, each episode once, in order, up to the budget.
    assert {split for seen in trained for split in seen.splits} == set(plan.split.split("+"))
    assert [n for seen in trained for n in seen.numbers] == list(range(steps * plan.meta_batch))
    assert all(len(seen.episodes) == plan.meta_batch and seen.training for seen in trained)
    assert {seen.shape for seen in trained} == {in_all(cell.train_setting)}
    weights = [seen.weights for seen in trained]
    assert all(one != other for one, other in pairwise(weights)), "each step is made"

    # Validation: the same episodes of its own classes each time. Test: once, at the end.
    assert not any(seen.training for seen in answers)
    assert {seen.shape for seen in answers} == {in_all(cell.test_setting)}
    assert all(len(seen.splits) == 1 for seen in answers) and not noted.of("predict", "train")
    episodes = [n for seen in noted.of("predict", "test") for n in seen.numbers]
    assert episodes == list(range(cell.config.test.episodes))
    first_test = next(i for i, seen in enumerate(noted.all) if "test" in seen.splits)
    of_learner = [seen for seen in noted.all[first_test:] if seen.original]
    assert {frozenset(seen.splits) for seen in of_learner} == {frozenset({"test"})}
    validated: list[list[int | None]] = []
    chosen_from: list[str] = []
    for split, seen in ((split, s) for s in answers for split in s.splits if split == "val"):
        assert split == "val"
        if seen.numbers[0] == 0 and (not chosen_from or chosen_from[-1] != seen.weights):
            validated.append([])
            chosen_from.append(seen.weights)
        validated[-1] += seen.numbers
    ends = sorted({round(steps * n / times) for n in range(1, times + 1)} - {0})
    expected = [[0, 0], *[list(range(cell.config.validation.episodes))] * len(ends)]
    assert validated == expected, "two answers before training, then one evaluation each"

    # The history says where validations were; the best of them, and no other, is tested and stored.
    ((when, name, files),) = noted.written
    assert name == cell.name and when == len(noted.all)
    history = pd.read_csv(io.StringIO(files["history.csv"]))
    assert history["episodes"].tolist() == [end * plan.meta_batch for end in ends]
    best = int(history["val_score"].argmax())  # the first of equals
    assert {seen.weights for seen in noted.of("predict", "test")} == {chosen_from[1 + best]}
    stored = load(files["model.safetensors"])
    assert digest(stored) == chosen_from[1 + best]
    record = json.loads(files["record.json"])
    assert record["selected_episode"] == history["episodes"][best]
    assert record["val_score"] == history["val_score"][best]
    assert record["train_episodes"] == steps * plan.meta_batch
    tested = pd.read_csv(io.StringIO(files["episodes.csv"]))
    assert tested["episode"].tolist() == list(range(cell.config.test.episodes))
    assert record["score"] == pytest.approx(tested["score"].mean(), abs=1e-9)

    # Copies are timed, and trained in training mode; none of them predicts for another split.
    copies = [seen for seen in noted.all if not seen.original]
    assert all(seen.training == (seen.kind == "train") for seen in copies)
    splits = {
        kind: {s for seen in copies if seen.kind == kind for s in seen.splits} for kind in KINDS
    }
    assert splits["train"] <= set(plan.split.split("+")) and splits["predict"] <= {"test"}


def test_the_best_parameters_are_tested_the_first_of_equals(small):
    """They know all images whose number is below 6, twice; then the last know less."""
    cell = small(script=RISING_AND_FALLING, train={"examples": 288}, validation={"times": 4})
    noted = seen_of(cell)
    check_laws(cell, noted)
    record = cell.store.record(cell.name)
    assert record["selected_episode"] == 2 * 4 and record["train_episodes"] == 2 * 8
    stored = load_file(cell.store.runs / cell.name / "model.safetensors")
    assert stored["done"] == 4


def check_laws_without_training(cell: cells.Cell, noted: Recording) -> None:
    """What holds for a learner that is tested as it was made."""
    answers = noted.of("predict")
    assert not noted.of("train") and not noted.of("predict", "train")
    assert not any(seen.training for seen in answers)
    assert not noted.of("predict", "val")
    episodes = [n for seen in noted.of("predict", "test") for n in seen.numbers]
    assert episodes == [0, 0, *range(cell.config.test.episodes)], "two answers before the test"
    assert len({seen.weights for seen in answers}) == 1
    ((_, name, files),) = noted.written
    assert name == cell.name and "history.csv" not in files
    record = json.loads(files["record.json"])
    assert (record["train_episodes"], record["selected_episode"]) == (0, 0)


@pytest.mark.parametrize("script", ["5000", "0005"])
def test_the_last_parameters_are_tested_without_classes_to_choose_them_by(small, script):
    both = {"train": {"split": "train+val", "examples": 108}, "validation": {"times": 1}}
    cell = small(script=script, **both)
    noted = seen_of(cell)
    check_laws(cell, noted)
    stored = load_file(cell.store.runs / cell.name / "model.safetensors")
    assert stored["done"] == 3
    assert {split for seen in noted.of("train") for split in seen.splits} == {"train", "val"}


def test_the_history_tells_each_stretch_by_itself(small, capsys):
    """In episodes, with the mean loss and the accuracy in percent since the last validation."""
    cell = small(script="0" * 9, train={"examples": 288}, validation={"times": 4})
    seen_of(cell)
    history = cell.store.history(cell.name)
    assert history["episodes"].tolist() == [4, 8, 12, 16]
    assert history["train_loss"].tolist() == [1.5, 3.5, 5.5, 7.5]
    assert history["train_score"].tolist() == pytest.approx([0.5, 2.5, 4.5, 6.5])
    assert history["val_score"].tolist() == [0] * 4 == history["val_ci95"].tolist()
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{cell.name}: validation {n} of 4, {4 * n} episodes, val 0.0 %" for n in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize(("images", "steps"), [(35, 1), (36, 1), (37, 2), (72, 2), (73, 3)])
def test_the_budget_is_rounded_up_to_whole_steps(small, images, steps):
    parts = cells.build_components(small(script="0", train={"examples": images}))
    assert parts.loop.steps == steps
    assert Training(parts.loop, 3).ends[-1] == steps


def test_no_two_purposes_share_their_episodes(small):
    """Were all splits the same images, other ones would still be drawn from them for each purpose."""
    pool = DATA["many classes"].splits["train"]
    same = Dataset.of("same", dict.fromkeys(("train", "val", "test"), pool))
    cell = cells.check(small().config, replace(same, expected_duplicates=None))
    parts = cells.build_components(cell)
    drawn = [s.indices(0, 4) for s in (parts.val_source, parts.test_source)]
    drawn.append(EpisodeSampler(pool, cell.test_setting, parts.loop.source.key).indices(0, 4))
    assert len({str(rows.tolist()) for rows in drawn}) == 3


def leaves(options: dict, path: str = "") -> dict[str, object]:
    """All options by their names, such as ``train.lr``."""
    found = {}
    for key, value in options.items():
        own = leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
        found |= own
    return found


def changed(options: dict, name: str, value: object) -> dict:
    """The same options with another value at one place."""
    key, _, rest = name.partition(".")
    return options | {key: changed(options[key], rest, value) if rest else value}


def another(value: object) -> object:
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + (1 if isinstance(value, int) else 0.25)
    if isinstance(value, list):
        return [*value, 0.5]
    return 4 if value is None else f"{value}x"


OTHERWISE = {
    "train.optimizer": "sgd",
    "train.split": "train+val",
    "train.lr_schedule": "linear",
    "precision": "bf16",
    "device": "auto",
    "data_root": "data",
    "cache_dir": "cache",
    "floors": ["nearest"],
}
"""Values that are possible, of keys for which others are not."""
OF_NO_MATTER = [
    *("throughput.seconds", "threads", "results_dir", "data_root", "cache_dir", "overwrite"),
    *("retry_failed", "dry_run", "until", "floors"),
]


def test_a_name_stands_for_all_that_determines_the_numbers(tmp_path):
    """Two cells share a name where they differ in what cannot move a number, and nowhere else."""
    made = configured(tmp_path)
    options, data = made.model_dump(), DATA["grey"]
    name = cells.name_of(made, data, "cpu")
    names: dict[str, str] = {}
    for key, value in leaves(options).items():
        if key in ("logger", "tune", "tuned"):  # no option, but code and its options
            continue
        other = changed(options, key, OTHERWISE.get(key, another(value)))
        names[key] = cells.name_of(Config.model_validate(other), data, "cpu")
    assert [key for key in names if names[key] == name] == OF_NO_MATTER
    others = [each for each in names.values() if each != name]
    others.append(cells.name_of(made, DATA["colour"], "cpu"))
    others.append(cells.name_of(made, data, "cuda"))
    assert len({name, *others}) == 1 + len(others)


def test_other_images_are_another_name_and_other_episodes(small):
    """Of data sets of one name, shape and size, of which a single pixel differs."""
    data, names, drawn, trainings = DATA["grey"], set(), set(), set()
    for pixel in (0, 1):
        images = data.splits["test"].inputs.clone()
        images[0, 0, 2, 2] = pixel
        test = replace(data.splits["test"], inputs=images)
        cell = small(data=Dataset.of(data.name, data.splits | {"test": test}))
        names.add(cell.name)
        parts = cells.build_components(cell)
        for sampler in (parts.loop.source, parts.val_source, parts.test_source):
            drawn.add(str(sampler.indices(0, 4).tolist()))
        trainings.add(training_digest(cell))
    assert (len(names), len(drawn), len(trainings)) == (2, 6, 2)


def test_a_name_ends_with_eight_letters_that_do_not_depend_on_the_order_of_options(tmp_path):
    assert re.fullmatch(
        "protonet-marked-3w1s-seed0-[0-9a-f]{8}",
        cells.name_of(configured(tmp_path), DATA["grey"], "cpu"),
    )
    assert cells.digest_of({"one": 1, "two": 2}) == cells.digest_of({"two": 2, "one": 1})


def test_images_are_changed_otherwise_at_each_step_and_by_each_process():
    """Of a data set of a single picture, so that only what was done to it can differ."""
    picture = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3)
    pool = Pool.of({str(c): picture.expand(20, -1, -1, -1) for c in range(3)})
    sampler = EpisodeSampler(pool, Setting(3, 4, 4), ("train",))
    plan = configured_train(crop_padding=1, flip=True)
    seen = []

    class Noting(Scripted):
        def meta_gradient(self, episodes):
            seen.append(episodes.query_x)
            return super().meta_gradient(episodes)

    loop = OuterLoop(Noting(torch.nn.Identity(), 3, script="0"), sampler, plan)
    for _ in range(3):
        loop.advance()
    assert not any(torch.equal(one, other) for one, other in combinations(seen, 2))
    for rank in (0, 1):
        part = OuterLoop(loop.learner, sampler, plan, ProcessGroup(rank, 2)).draw(4)
        assert torch.equal(part.query_x, loop.draw(4).query_x[rank : rank + 1])


def configured_train(**changes: object) -> schema.Train:
    plan = {"examples": 10**4, "meta_batch": 2, "ways": 3, "shots": 4, "queries": 4}
    return schema.Train.model_validate(PLAIN | plan | changes)


def test_a_training_that_goes_on_draws_what_comes_next(small, monkeypatch):
    """After a stop in each stretch: no episode is left out, none is trained on twice."""
    cell = small(script=RISING_AND_FALLING, validation={"times": 2})
    monkeypatch.setattr("bench.engine.train.MAX_SECONDS_BETWEEN_PAUSES", -1.0)
    state, numbers, ends = None, [], []
    with recording(Scripted) as noted:
        while not ends:
            parts = cells.build_components(cell)
            training = Training(parts.loop, 2)
            if state:
                training.load_state_dict(state)
            else:
                parts.loop.learner.chunk_size = 1  # as where memory did not suffice for more
            found = training.run(lambda: torch.tensor([0.0, 1.0]), lambda: None)
            next(found)
            assert parts.loop.learner.chunk_size == 1
            state = training.state_dict()
            ends = [each for each in training.history if each.episodes == 16]
    numbers = [n for seen in noted.of("train") for n in seen.numbers]
    assert numbers == list(range(16))
    assert [each.train_loss for each in training.history] == [2.5, 6.5]


def test_what_was_trained_before_another_process_ended_is_saved(small, monkeypatch, capsys):
    cell, advance = small(script=RISING_AND_FALLING), OuterLoop.advance

    def lost(loop):
        if loop.step == 2:
            raise PeerLostError("gone")
        return advance(loop)

    with monkeypatch.context() as patched:
        patched.setattr(OuterLoop, "advance", lost)
        with pytest.raises(PeerLostError):
            run.run(cell)
    with recording(Scripted) as noted:
        run.run(cell)
    assert [n for seen in noted.of("train") for n in seen.numbers] == list(range(4, 16))
    assert "resumes at step 2 of 8" in capsys.readouterr().out


def test_a_bar_is_for_a_terminal_that_one_cell_has_to_itself(small, monkeypatch):
    monkeypatch.setattr(run, "tqdm", lambda **options: options)
    cell = small(script="0")
    training = Training(cells.build_components(cell).loop, 3)
    assert run.progress_bar(cell, training)["disable"] is None
    assert run.progress_bar(cell, training)["total"] == 3
    assert run.progress_bar(replace(cell, world=ProcessGroup(1, 2)), training)["disable"] is True
    monkeypatch.setattr(run, "is_worker", lambda: True)
    assert run.progress_bar(cell, training)["disable"] is True


def test_a_bar_tells_the_score_of_each_validation(small, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(
        run, "progress_bar", lambda *_: run.tqdm(total=3, file=shown, mininterval=0)
    )
    cell = small(script=RISING_AND_FALLING)
    run.run(cell)
    for score in cell.store.history(cell.name)["val_score"]:
        assert f"val {score:.1f} %" in shown.getvalue()


@pytest.mark.parametrize("training", [False, True])
def test_evaluation_leaves_the_mode_as_it_was(small, training):
    parts = cells.build_components(small())
    learner = parts.loop.learner.train(training)
    sampler = parts.val_source
    looks = (
        lambda: evaluate(learner, sampler, 2, 2),
        lambda: depends_on_query_order(learner, sampler),
    )
    for look in looks:
        look()
        assert learner.training == training
    learner.forward = lambda *_: 1 / 0
    for look in looks:
        with pytest.raises(ZeroDivisionError):
            look()
        assert learner.training == training


def test_a_test_prediction_that_is_no_number_fails_the_cell(small):
    cell = small(script="1", numberless="test")
    with pytest.raises(RunFailedError, match="a prediction of a test episode is NaN or infinite"):
        run.run(cell)
    assert cell.store.record(cell.name) is None


def test_speed_is_measured_after_a_call_that_does_not_count(monkeypatch):
    events: list[str] = []

    class Time:
        @staticmethod
        def perf_counter() -> float:
            events.append("clock")
            return float(len(events))

    monkeypatch.setattr(throughput, "time", Time)
    monkeypatch.setattr(throughput, "reset_peak_memory", lambda _: events.append("reset"))
    cpu = torch.device("cpu")
    row = throughput._phase("train", lambda: events.append("work"), 4, 30, cpu, seconds=0.0)
    assert (
        events[:4] == ["reset", "work", "clock", "work"]
        and events.count("work") == row["calls"] + 1
    )


@pytest.mark.parametrize("algo", OF_CLASSES)
def test_seeds_are_other_weights_and_other_training_episodes_and_no_other_test(
    small, monkeypatch, algo
):
    """The seed alone: neither the data set nor the state of the host's random numbers matter."""
    monkeypatch.setattr(run, "measure", lambda *_: [])
    short = {"train": {"examples": 30}, "validation": {"times": 1}, "overwrite": True}
    options, runs = [f"algo={algo}", *QUICK.get(algo, [])], []
    for seed, kind in ((0, "grey"), (1, "grey"), (0, "grey"), (0, "few classes")):
        torch.manual_seed(len(runs))
        runs.append(seen_of(small(*options, **short, seed=seed, data=DATA[kind])))
    one, other, again, elsewhere = (
        {
            "weights": noted.of("predict")[0].weights,
            "train": [seen.episodes for seen in noted.of("train")],
            "val": [seen.episodes for seen in noted.of("predict", "val")],
            "test": noted.of("predict", "test")[-1].episodes,
        }
        for noted in runs
    )
    assert one == again
    trained = ["train"] if small(*options).config.train.examples else []
    assert [key for key in one if one[key] != other[key]] == ["weights", *trained]
    # Learners that tell all classes apart have weights for each.
    classes = getattr(small(*options).config.algo.resolve(), "trains_classifier", False)
    assert (one["weights"] == elsewhere["weights"]) != classes
    drawn = [*trained, "val", "test"] if trained else ["test"]
    assert all(one[key] != elsewhere[key] for key in drawn)


@pytest.mark.parametrize("kind", DATA)
def test_all_kinds_of_data_sets_are_drawn_from_alike(small, kind):
    cell = small(script=RISING_AND_FALLING, data=DATA[kind])
    noted = seen_of(cell)
    check_laws(cell, noted)
    classes = {name: len(pool.names) for name, pool in cell.dataset.splits.items()}
    assert classes == {name: len(pool.names) for name, pool in DATA[kind].splits.items()}


@pytest.mark.parametrize("name", groups.names("dataset"))
def test_all_data_sets_are_drawn_from_as_they_are_loaded(small, monkeypatch, name, tmp_path):
    """By their own code, which here prepares marked images."""
    asked = []

    def prepare(folders, **options):
        asked.append((folders, options))
        return replace(DATA["colour"], name=name)

    folders = {"data_root": f"{tmp_path}/archives", "cache_dir": f"{tmp_path}/cache"}
    made = configured(tmp_path, f"dataset={name}", script=RISING_AND_FALLING, **folders)
    chosen = made.dataset
    module, _, function = chosen.target.rpartition(".")
    monkeypatch.setattr(f"{module}.{function}", prepare)
    monkeypatch.setattr(cells, "check_options", lambda *_: None)
    cells.load.cache_clear()
    cell = cells.check(made)
    assert cells.check(made).dataset is cell.dataset
    ((folders, options),) = asked
    assert (folders.archives, folders.cache) == (tmp_path / "archives", tmp_path / "cache")
    assert options == chosen.options
    check_laws(cell, seen_of(cell))
    cells.load.cache_clear()


@pytest.mark.parametrize("algo", OF_CLASSES)
def test_all_learners_are_trained_chosen_and_tested_alike(small, algo):
    cell = small(f"algo={algo}", *QUICK.get(algo, []))
    noted = seen_of(cell)
    check_laws(cell, noted)
