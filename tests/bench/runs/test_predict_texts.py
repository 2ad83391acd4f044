"""New texts labelled by the command, by stored runs whose data are gone, and by the estimator."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

import bench
from bench.core.errors import UserError
from bench.export import main as export
from bench.predict import main
from bench.runs import run as running
from bench.runs.backbone import StoredBackbone
from bench.runs.cell import Cell, build_components
from bench.runs.reload import parameters
from bench.tasks.episodes import episodes_of
from bench.tasks.texts import to_text

SHORT = ["train.examples=240", "validation.times=1", "test.episodes=2"]
HASHING = ["encoder=hashing", "support=questions"]
QUESTIONS = {
    "card": "my card was stolen|where is my card|the card is broken|a new card please",
    "rate": "what is the rate|is the rate fair|which rate do you use|the rate for euros",
    "fee": "why is there a fee|how high is the fee|the fee is wrong|a fee for nothing",
}
NEW = ["who took the card", "tell me the rate", "fee, again"]


@pytest.fixture
def questions(tmp_path, monkeypatch) -> Path:
    """Four texts of each of three classes, and three new ones."""
    (tmp_path / "questions").mkdir()
    for name, texts in QUESTIONS.items():
        (tmp_path / "questions" / f"{name}.txt").write_text(texts.replace("|", "\n"))
    (tmp_path / "new.txt").write_text("\n\n".join(NEW) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_head_on_a_frozen_encoder_labels_texts(questions, capsys):
    assert main([*HASHING, "algo=centroid", "texts=new.txt"]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert "of 12 support texts; exact 95 %" in first
    assert second == "unsure: not told, as 12 texts are fewer than 20."
    assert last == "predictions.csv: labels of 3 texts"
    table = pd.read_csv("predictions.csv", keep_default_na=False)
    assert table.columns.tolist() == ["text", "label", "probability", "runner-up", "unsure"]
    assert table["text"].tolist() == NEW and table["label"].tolist() == ["card", "rate", "fee"]
    assert (table["label"] != table["runner-up"]).all() and (table["unsure"] == "").all()
    assert table["probability"].between(1 / 3, 1).all()


def test_csv_files_are_read_as_folders_are(questions, capsys):
    assert main([*HASHING, "texts=new.txt", "output=lines.csv"]) == 0
    said = capsys.readouterr().out.splitlines()[:2]
    pairs = [(text, name) for name, all in QUESTIONS.items() for text in all.split("|")]
    pd.DataFrame(pairs, columns=["Text", "label"]).to_csv("support.csv", index=False)
    pd.DataFrame({"id": [1, 2, 3], "text": NEW}).to_csv("new.csv", index=False)
    assert main(["encoder=hashing", "support=support.csv", "texts=new.csv", "output=rows.csv"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == said
    assert Path("rows.csv").read_text() == Path("lines.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*HASHING, "images=photos"], "Give texts=... alone: what this ridge labels are texts."),
        ([*HASHING], "Give texts=... alone"),
        ([*HASHING, "texts=old.txt"], "There is no file old.txt"),
        ([*HASHING, "texts=questions"], "There is no file questions"),
        ([*HASHING, "texts=empty.txt"], "empty.txt has no texts; write one a line"),
        ([*HASHING, "texts=words.csv"], "words.csv has the columns 'word'; name one text"),
        (["encoder=hashing", "support=none", "texts=new.txt"], "There is no none; name a folder"),
        (["encoder=hashing", "support=photos", "texts=new.txt"], "photos holds no .txt files"),
        (["encoder=bytes", "support=questions", "texts=new.txt"], "bytes has to be trained"),
        (["encoder=ngrams", "support=questions", "texts=new.txt"], "ngrams has to be trained"),
        (["backbone=hog", "support=questions", "texts=new.txt"], "Give images=... alone"),
        (["backbone=hog", "support=questions", "images=photos"], "make one sub-folder of images"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(questions, capsys, arguments, sentence):
    (questions / "photos").mkdir()
    Image.new("RGB", (9, 9)).save("photos/a.png")
    Path("empty.txt").write_text("\n \n")
    Path("words.csv").write_text("word\ncard\n")
    assert main(arguments) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert sentence in said


@pytest.fixture
def train(make, questions, monkeypatch):
    """Train a learner on texts, which are gone then; return its cell."""

    def trained(algo: str, encoder: str) -> Cell:
        for number in range(6):
            lines = (f"{number * 1111} is {n} {'m' * n} Nümber" for n in range(9))
            Path(f"questions/other{number}.txt").write_text("\n".join(lines))
        options = [
            "dataset=textfolder",
            "dataset.path=questions",
            "ways=2",
            "queries=2",
            "train.queries=2",
        ]
        cell = make(f"algo={algo}", f"backbone={encoder}", *options, *SHORT)
        running.run(cell)
        shutil.rmtree("questions")
        monkeypatch.setattr("bench.datasets.texts.textfolder.prepare", None)
        return cell

    return trained


@pytest.mark.parametrize(("algo", "encoder"), [("protonet", "bytes"), ("maml", "ngrams")])
def test_a_stored_run_labels_texts_without_its_data_set(train, algo, encoder):
    """Its answers are those of its learner in a test episode."""
    cell = train(algo, encoder)
    seen = build_components(cell)
    seen.learner.load_state_dict(parameters(cell.store, cell.name))
    batch = seen.test_source.draw(0, 1)
    with torch.no_grad():
        outputs = seen.learner.eval()(batch.support_x, batch.support_y, batch.query_x)

    raw = replace(cell.dataset, encoding=None)
    episode = episodes_of(raw, "test", cell.test_setting, cell.device, "test").draw(0, 1)
    support, queries = (
        [to_text(row) for row in rows]
        for rows in (episode.support_x[0].flatten(0, 1), episode.query_x[0])
    )
    learner = bench.load(cell.store.runs / cell.name)
    learner.fit(support, batch.support_y.flatten().tolist())
    found = learner.predict_proba(queries)
    assert found == pytest.approx(outputs.softmax(-1)[0].double().numpy(), abs=1e-5)
    assert learner.prepare("ü" * 999).shape == learner.prepare("").shape, "longer ones are cut"


def test_what_a_run_on_texts_cannot_do_is_told_in_a_sentence(train, questions, capsys):
    cell = train("protonet", "bytes")
    run = cell.store.runs / cell.name
    with pytest.raises(UserError, match="PosixPath is no text, and this learner reads texts"):
        bench.load(run).fit([Path("a.jpg"), Path("b.jpg")], ["a", "b"])
    with pytest.raises(UserError, match="There are texts of 1 class"):
        bench.load(run).fit(["a", "b"], ["a", "a"])
    with pytest.raises(UserError, match="learned on texts, and backbone=run is for images"):
        StoredBackbone((1, 28, 28), path=str(run))
    Path("few.csv").write_text("text,label\nmy card,card\nthe fee,fee\n")
    assert main([str(run), "support=few.csv", "texts=new.txt"]) == 0
    assert "each class has one example" in capsys.readouterr().out
    assert export([str(run), "support=few.csv"]) == 2
    assert "protonet labels texts, and an ONNX file takes pixels" in capsys.readouterr().err


def test_the_estimator_takes_lists_of_texts():
    texts = [text for each in QUESTIONS.values() for text in each.split("|")]
    labels = [name for name in QUESTIONS for _ in range(4)]
    classifier = bench.Classifier("ridge", "hashing").fit(texts, labels)
    assert classifier.predict(NEW).tolist() == ["card", "rate", "fee"]
    assert classifier.score(texts, labels) == 1
    with pytest.raises(UserError, match="int is no text"):
        classifier.predict([1, 2])
    with pytest.raises(UserError, match="Give a list of images or texts, even of one"):
        classifier.predict("who took the card")
