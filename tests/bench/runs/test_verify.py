"""Stored runs evaluated again: what fits is told, and what was edited since."""

import hashlib
import io
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save

from bench.runs import run as running
from bench.verify import main


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept") / "runs"


@pytest.fixture
def run(make, tmp_path, kept):
    """The folder of a finished run, which is run once for all tests."""
    cell = make("algo=protonet", f"results_dir={tmp_path}/results")
    if kept.exists():
        shutil.copytree(kept, cell.store.runs, dirs_exist_ok=True)
    else:
        running.run(cell)
        shutil.copytree(cell.store.runs, kept)
    return cell.store.runs / cell.name


@pytest.fixture
def said(capsys, cache):
    def command(*arguments: object) -> tuple[int, str]:
        status = main([*map(str, arguments), f"cache_dir={cache}"])
        out, error = capsys.readouterr()
        return status, out + error

    return command


def test_a_run_as_it_was_stored(run, said, tmp_path):
    for arguments in ([run], [run.name, f"results_dir={tmp_path}/results"]):
        status, text = said(*arguments)
        assert status == 0, text
        assert f"{run.name}: every episode as stored" in text and "1 of 1 runs are" in text
    assert said(f"results_dir={tmp_path}/results")[0] == 0


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_where_and_by_how_many_processes_it_was_run_is_no_finding(run, said):
    edit_json(
        run / "record.json", device_name="Another CPU", threads=9, processes=2, launcher="ray"
    )
    assert said(run)[0] == 0


def test_where_rounding_differs_is_told_beside_what_was_found(run, said):
    edited_record_alone(run)
    assert "rounding differs" not in said(run)[1]
    edit_json(run / "record.json", torch="1.0", device_name="Another CPU")
    assert "the run had device_name Another CPU, torch 1.0, where rounding differs" in said(run)[1]


def without_loss(run):
    pd.read_csv(run / "episodes.csv").drop(columns="loss").to_csv(run / "episodes.csv", index=False)


def edited_accuracy(run):
    """As one would: the record and the episodes agree with each other."""
    tested = pd.read_csv(run / "episodes.csv")
    tested["score"] = 100.0
    tested.to_csv(run / "episodes.csv", index=False)
    edit_json(run / "record.json", score=100.0, ci95=0.0)


def edited_record_alone(run):
    """By as little as is shown in a table."""
    raise_in_record(run, "score", 0.01)


def edited_interval(run):
    raise_in_record(run, "ci95", -0.01)


def raise_in_record(run, key, by):
    path = run / "record.json"
    edit_json(path, **{key: json.loads(path.read_text())[key] + by})


def one_more_right_answer(run):
    """In one episode of 5 ways and 5 queries."""
    tested = pd.read_csv(run / "episodes.csv")
    episode = int((tested["score"] < 100).argmax())
    tested.loc[episode, "score"] += 4.0
    tested.to_csv(run / "episodes.csv", index=False)


def edited_row(run):
    edit_json(run / "record.json", train_examples=9, meta_batch=77)


def edited_parameters(run):
    """As one would: description and weights agree with each other."""
    state = load_file(run / "model.safetensors")
    state["backbone.convolutions.0.weight"] *= -1
    write_parameters(run, save(state))


def write_parameters(run, content):
    (run / "model.safetensors").write_bytes(content)
    edit_json(run / "model.json", sha256=hashlib.sha256(content).hexdigest())


def exchanged_parameters(run):
    (run / "model.safetensors").write_bytes(save({"weight": torch.ones(1)}))


def edited_description(run):
    images = json.loads((run / "model.json").read_text())["images"]
    edit_json(run / "model.json", images=images | {"inverted": False})


def damaged_description(run):
    edit_json(run / "model.json", outputs="many")


def lost_description(run):
    (run / "model.json").unlink()


def edited_configuration(run):
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["train"]["lr"] = 0.5
    path.write_text(yaml.safe_dump(config))


def edited_classes(run):
    tested = pd.read_csv(run / "episodes.csv")
    tested["classes"] = tested["classes"][::-1].to_numpy()
    tested.to_csv(run / "episodes.csv", index=False)


def edited_groups(run):
    """Every class of one episode is of the same group."""
    tested = pd.read_csv(run / "episodes.csv")
    tested.loc[0, "groups"] = "1 1 1 1 1"
    tested.to_csv(run / "episodes.csv", index=False)


def edited_history(run):
    """The best validation comes earlier."""
    path = run / "history.csv"
    history = pd.read_csv(path)
    history.loc[0, "val_score"] = 99.0
    history.to_csv(path, index=False)


def edited_losses(run):
    tested = pd.read_csv(run / "episodes.csv")
    tested["loss"] *= 0.9
    tested.to_csv(run / "episodes.csv", index=False)


def edited_choice(run):
    """As one would: the record and its learning curve agree with each other."""
    edited_history(run)
    history = pd.read_csv(run / "history.csv")
    first = int(history["episodes"][0])
    edit_json(run / "record.json", val_score=99.0, selected_episode=first)


def edited_speed(run):
    rows = json.loads((run / "record.json").read_text())["throughput"]
    edit_json(run / "record.json", throughput=[row | {"tasks_per_s": 1e4} for row in rows])


def lost_parameters(run):
    (run / "model.safetensors").unlink()


def damaged_parameters(run):
    write_parameters(run, b"no tensors")


def other_backbone(run):
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["backbone"]["filters"] = 5
    path.write_text(yaml.safe_dump(config))


def damaged_configuration(run):
    (run / "config.yaml").write_text("algo: [")


def referring_configuration(run):
    (run / "config.yaml").write_text("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n")


def code_of_a_stranger(run):
    """Which would be called with a backbone and a number of ways."""
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["algo"]["target"] = "os.system"
    path.write_text(yaml.safe_dump(config))


def name_of_another_folder(run):
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["algo"]["name"] = "../../elsewhere/evil"
    path.write_text(yaml.safe_dump(config))


def row_of_another_run(run):
    edit_json(run / "record.json", cell="../../other")


def parameters_that_unfold(run):
    header = b'{"weight":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'
    write_parameters(run, len(header).to_bytes(8, "little") + header + bytes(4))


def parameters_that_run_code(run):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(run / "run"),)

    buffer = io.BytesIO()
    torch.save({"weight": Evil()}, buffer)
    write_parameters(run, buffer.getvalue())


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (without_loss, "episodes.csv has no loss"),
        (edited_accuracy, "12 episodes have another score, the first number"),
        (edited_record_alone, "record.json says score "),
        (edited_interval, "record.json says ci95 "),
        (one_more_right_answer, "1 of 12 episodes have another score, the first number"),
        (edited_row, "record.json says train_examples 9, config.yaml and the data 480"),
        (lambda run: edit_json(run / "record.json", loss=0.1), "record.json says loss 0.1, now it"),
        (lambda run: edit_json(run / "record.json", brier=0.1), "says brier 0.1, now it is"),
        (lambda run: edit_json(run / "record.json", ece=0.1), "says ece 0.1, now it is"),
        (lambda run: edit_json(run / "record.json", val_score=99.0), "val_score 99.0, now"),
        (lambda run: edit_json(run / "record.json", train_seconds=0.5), "0.5, history.csv"),
        (lambda run: edit_json(run / "record.json", train_episodes=9), "9, history.csv"),
        (lambda run: edit_json(run / "record.json", selected_episode=1), "1, history.csv"),
        (edited_history, "history.csv 99.0"),
        (edited_choice, "record.json says val_score 99.0, now it is"),
        (edited_losses, "episodes.csv holds another loss than the episodes have"),
        (edited_speed, "says train tasks_per_s 10000.0, and its ms_median makes it"),
        (edited_parameters, "record.json says score"),
        (edited_configuration, "config.yaml is not that of the run, but of protonet-glyphs-5w1s"),
        (edited_classes, "episodes.csv names other classes"),
        (edited_groups, "episodes.csv names other groups"),
        (lost_parameters, "model.safetensors is missing"),
        (damaged_parameters, "model.safetensors is damaged"),
        (exchanged_parameters, "model.safetensors is damaged (its SHA-256 is not the stored one)"),
        (edited_description, "model.json says images shape=(1, 28, 28)"),
        (damaged_description, "model.json is damaged"),
        (lost_description, "model.json is missing"),
        (other_backbone, "model.safetensors is that of another learner or backbone"),
        (damaged_configuration, "config.yaml cannot be read"),
        (referring_configuration, "config.yaml cannot be read: it has references"),
        (
            code_of_a_stranger,
            "algo 'protonet' would run 'os.system', which conf/algo/ does not know",
        ),
        (
            name_of_another_folder,
            "algo '../../elsewhere/evil' would run 'algorithms.protonet.ProtoNet'",
        ),
        (row_of_another_run, "cannot be read: it is that of ../../other"),
        (parameters_that_unfold, "model.safetensors is damaged ("),
        (parameters_that_run_code, "model.safetensors is damaged ("),
    ],
)
def test_what_was_edited_is_found(run, said, edit, finding):
    edit(run)
    status, text = said(run)
    assert (status, finding in text) == (1, True), text
    assert "0 of 1 runs are what they say" in text
    assert not (run / "run").exists()


def test_a_run_that_lost_its_parameters_is_not_left_out(run, said, tmp_path):
    (run / "model.safetensors").unlink()
    status, text = said(f"results_dir={tmp_path}/results")
    assert status == 1 and "model.safetensors is missing" in text


def test_a_run_can_be_told_where_its_photographs_are_now(make, said, tmp_path):
    draw = np.random.default_rng(0)
    for name in ("ant", "bee", "cat", "dog", "eel", "fox"):
        (folder := tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(draw.integers(0, 256, (16, 16), np.uint8)).save(
                folder / f"{number}.png"
            )
    few = ["ways=2", "queries=1", "train.ways=2", "train.queries=1", "train.examples=80"]
    own = [f"dataset.path={tmp_path}/photos", "dataset.side=16", "dataset.min_classes=2"]
    cell = make("dataset=folder", "dataset.channels=1", *own, *few)
    running.run(cell)
    (tmp_path / "photos").rename(tmp_path / "moved")
    run = cell.store.runs / cell.name
    status, text = said(run)
    assert status == 1 and "There is no photos, neither here nor in" in text
    status, text = said(run, f"dataset.path={tmp_path}/moved")
    assert status == 0, text


def test_other_data_are_found(run, said, monkeypatch):
    edit_json(run / "record.json", data_digest="0123456789abcdef")
    status, text = said(run)
    assert status == 1 and "was trained on other data than glyphs is now (digest 01234567" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "There is no run nothing"),
        (["results_dir=elsewhere"], "No finished runs under elsewhere/runs"),
        (["result_dir=x"], "Cannot read the argument 'result_dir=x'"),
    ],
)
def test_mistakes(said, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, text = said(*arguments)
    assert status == 2 and sentence in text and text.count("\n") == 1
