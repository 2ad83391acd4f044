"""Stored runs evaluated again: what fits is told, and what was edited since."""

import json
import os
import shutil
import zipfile

import pandas as pd
import pytest
import torch
import yaml

from bench import running
from bench.verify.__main__ import main


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


def edited_accuracy(run):
    """As one would: the record and the episodes agree with each other."""
    tested = pd.read_csv(run / "episodes.csv")
    tested["accuracy"] = 100.0
    tested.to_csv(run / "episodes.csv", index=False)
    edit_json(run / "record.json", accuracy=100.0, ci95=0.0)


def edited_record_alone(run):
    """By as little as is shown in a table."""
    raise_in_record(run, "accuracy", 0.01)


def edited_interval(run):
    raise_in_record(run, "ci95", -0.01)


def raise_in_record(run, key, by):
    path = run / "record.json"
    edit_json(path, **{key: json.loads(path.read_text())[key] + by})


def one_more_right_answer(run):
    """In one episode of 5 ways and 5 queries."""
    tested = pd.read_csv(run / "episodes.csv")
    episode = int((tested["accuracy"] < 100).argmax())
    tested.loc[episode, "accuracy"] += 4.0
    tested.to_csv(run / "episodes.csv", index=False)


def edited_row(run):
    edit_json(run / "record.json", train_images=9, meta_batch=77)


def edited_parameters(run):
    state = torch.load(run / "checkpoint.pt")
    state["backbone.convolutions.0.weight"] *= -1
    torch.save(state, run / "checkpoint.pt")


def edited_configuration(run):
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["train"]["rate"] = 0.5
    path.write_text(yaml.safe_dump(config))


def edited_classes(run):
    tested = pd.read_csv(run / "episodes.csv")
    tested["classes"] = tested["classes"][::-1].to_numpy()
    tested.to_csv(run / "episodes.csv", index=False)


def lost_parameters(run):
    (run / "checkpoint.pt").unlink()


def damaged_parameters(run):
    (run / "checkpoint.pt").write_bytes(b"no archive")


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


def parameters_of_another_kind(run):
    torch.save([1, 2], run / "checkpoint.pt")


def parameters_that_unfold(run):
    torch.save({"weight": torch.zeros(1).expand(10**12)}, run / "checkpoint.pt")


def packed_parameters(run):
    with zipfile.ZipFile(run / "checkpoint.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))


def parameters_that_run_code(run):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(run / "run"),)

    torch.save({"weight": Evil()}, run / "checkpoint.pt")


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (edited_accuracy, "12 episodes have another accuracy, the first number"),
        (edited_record_alone, "record.json says accuracy "),
        (edited_interval, "record.json says ci95 "),
        (one_more_right_answer, "1 of 12 episodes have another accuracy, the first number"),
        (edited_row, "record.json says train_images 9, config.yaml and the data 480"),
        (edited_parameters, "episodes have another accuracy"),
        (edited_configuration, "config.yaml is not that of the run, but of protonet-glyphs-5w1s"),
        (edited_classes, "episodes.csv names other classes"),
        (lost_parameters, "checkpoint.pt is missing"),
        (damaged_parameters, "checkpoint.pt is damaged"),
        (other_backbone, "checkpoint.pt is that of another learner or backbone"),
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
        (parameters_of_another_kind, "checkpoint.pt holds no parameters"),
        (
            parameters_that_unfold,
            "checkpoint.pt is damaged (it has a tensor of shape (1000000000000,))",
        ),
        (packed_parameters, "checkpoint.pt is damaged (it is packed)"),
        (parameters_that_run_code, "checkpoint.pt is damaged (Weights only load failed"),
    ],
)
def test_what_was_edited_is_found(run, said, edit, finding):
    edit(run)
    status, text = said(run)
    assert (status, finding in text) == (1, True), text
    assert "0 of 1 runs are what they say" in text
    assert not (run / "run").exists()


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
