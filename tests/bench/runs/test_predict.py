"""New photographs labelled by the command."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from PIL import Image

from bench.predict import main
from bench.runs import run as running
from bench.runs.predict import LeaveOneOut, threshold_of
from bench.stats.intervals import binomial_ci95
from tests.bench.runs.test_load import SHORT
from tests.bench.small import ENCODER


def test_a_head_on_a_pretrained_backbone_labels_photographs(leaves, capsys):
    assert main([*ENCODER, "support=photos", "images=new/*"]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert (
        first.startswith("Leave-one-out accuracy: ") and "of 9 support images; exact 95 %" in first
    )
    assert second == "unsure: not told, as 9 images are fewer than 20."
    assert last == "predictions.csv: labels of 3 images"
    table = pd.read_csv("predictions.csv", keep_default_na=False)
    assert table.columns.tolist() == ["file", "label", "probability", "runner-up", "unsure"]
    assert table["file"].tolist() == sorted(map(str, Path("new").glob("*.jpg")))
    assert table.loc[1, ["file", "label"]].tolist() == ["new/healthy_maize_4.jpg", "healthy_maize"]
    assert set(table["label"]) <= {path.name for path in Path("photos").iterdir()}
    assert (table["label"] != table["runner-up"]).all() and (table["unsure"] == "").all()
    assert table["probability"].between(1 / 3, 1).all()

    assert (
        main(["algo=centroid", *ENCODER, "support=photos", "images=new", "output=other.csv"]) == 0
    )
    assert pd.read_csv("other.csv")["label"][1] == "healthy_maize"


@pytest.mark.slow
def test_a_stored_run_labels_drawings_without_its_data_set(make, tmp_path, monkeypatch, capsys):
    """As they are seen: with dark ink on bright paper."""
    cell = make("algo=protonet", *SHORT)
    running.run(cell)
    pool = cell.dataset.splits["test"]
    for name, first in zip(("x", "y", "z"), pool.offsets.tolist(), strict=False):
        for folder, numbers in ((f"photos/{name}", range(8)), ("new", [8])):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for n in numbers:
                image = Image.fromarray(255 - pool.inputs[first + n, 0].numpy()).convert("RGB")
                image.resize((200, 200)).save(tmp_path / folder / f"{name}{n}.png")
    monkeypatch.setattr("bench.datasets.images.glyphs.prepare", None)
    monkeypatch.chdir(tmp_path)
    run = cell.store.runs / cell.name
    assert main([str(run), "support=photos", "images=new"]) == 0
    said = capsys.readouterr().out
    assert "of 24 support images" in said and "unsure: " in said
    table = pd.read_csv("predictions.csv")
    assert sum(table["label"] == ["x", "y", "z"]) >= 2
    assert set(table["unsure"]) <= {"yes", "no"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["images=new"], "Give support=..."),
        (["support=photos"], "Give images=..."),
        (["support=photos", "images=new", "nowhere"], "Give one stored run, or backbone=..."),
        (["support=photos", "images=new", "shots=5"], "Cannot read the argument 'shots=5'"),
        (["support=photos", "images=old/*.jpg"], "images=old/*.jpg finds no image"),
        (["support=none", "images=new"], "There is no folder none"),
        (["support=new", "images=new"], "make one sub-folder of images for each class"),
        (["support=photos", "images=new", "output=no/where.csv"], "Cannot write no/where.csv"),
        (["support=photos", "images=new", "algo=maml"], "maml has to be trained"),
        (["support=photos", "images=new", "backbone.digest=ffff"], "their digest is"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(leaves, capsys, arguments, sentence):
    assert main([*ENCODER, *arguments]) in (2, 74)
    assert sentence in capsys.readouterr().err


def test_an_ordinary_backbone_has_to_be_trained(leaves, capsys):
    assert main(["backbone=conv4", "support=photos", "images=new"]) == 2
    assert "conv4 has to be trained" in capsys.readouterr().err
    assert main(["nowhere", "support=photos", "images=new"]) == 2
    assert "There is no run nowhere" in capsys.readouterr().err
    (leaves / "new" / "broken.jpg").write_bytes(b"no image")
    assert main([*ENCODER, "support=photos", "images=new"]) == 2
    assert "broken.jpg cannot be read: it is no image" in capsys.readouterr().err


def test_the_threshold_is_the_lowest_with_95_of_100_correct_above_it():
    falling = np.linspace(0.99, 0.5, 40)
    correct = np.ones(40, bool)
    assert threshold_of(falling[:19], correct[:19]) is None
    assert threshold_of(falling, correct) == falling[-1]
    correct[[10, 30]] = False
    assert threshold_of(falling, correct) == falling[-1], "38 of 40"
    correct[38:] = False
    assert threshold_of(falling, correct) == falling[29], "29 of 30, then 29 of 31"
    correct[[0, 1]] = False
    assert threshold_of(falling, correct) == np.inf
    same = np.full(40, 0.9)
    assert threshold_of(same, np.arange(40) < 38) == 0.9
    assert threshold_of(same, np.arange(40) < 37) == np.inf, "equal ones are all above or none"


def test_the_sentences_of_each_case():
    assert "each class has one example" in LeaveOneOut(0, 0, None).sentences[0]
    accuracy, _ = LeaveOneOut(11, 12, None).sentences
    assert "91.7 % (11 of 12 support images; exact 95 % interval 61.5 to 99.8 %)" in accuracy
    assert "unsure: yes for all" in LeaveOneOut(10, 30, np.inf).sentences[1]
    assert "below a probability of 0.7500" in LeaveOneOut(29, 30, 0.75).sentences[1]


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (11, 12), (1, 40)])
def test_the_binomial_interval_is_exact(successes, trials):
    exact = scipy.stats.binomtest(successes, trials).proportion_ci(0.95, "exact")
    assert binomial_ci95(successes, trials) == pytest.approx((exact.low, exact.high))
