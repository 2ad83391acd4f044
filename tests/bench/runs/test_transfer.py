"""Trained learners on other data sets: held to a plain loop; what is seen; what cannot be."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from algorithms.learner import Setting
from bench.core.errors import UserError
from bench.datasets.images import miniimagenet
from bench.datasets.io.cache import DataDirs
from bench.probe import main
from bench.runs import cell as cells
from bench.runs import run
from bench.runs.probe import trained
from bench.runs.reload import parameters
from bench.runs.store import Store
from bench.runs.transfer import as_seen, load, others, share_seen
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Dataset, Pool
from tests.bench.datasets.fakes import MiniImagenet

SHAPE = Setting(2, 1, 2)
MISTAKES = {
    "datasets=omniglott": "There is no dataset 'omniglott'; choose one of ",
    "datasets=glyphs": "datasets=glyphs names nothing but what the runs under ",
    "dataset.path=photos": "dataset.path=photos is an option of one data set; name that alone, ",
    "datasets=glyphs,folder dataset.side=9": "dataset.side=9 is an option of one data set; ",
    "datasets=folder dataset.pth=x": "There is no option 'dataset.pth'; did you mean 'dataset.path'?",
    "datasets=folder dataset.side=x": "dataset.side=x is invalid: it should be a valid integer.",
}


@pytest.fixture
def data_root(tmp_path, monkeypatch) -> str:
    """A folder with a small miniImageNet, whose test split has two classes of four images."""
    monkeypatch.setattr(miniimagenet, "CLASSES", MiniImagenet.CLASSES)
    monkeypatch.setattr(miniimagenet, "IMAGES", MiniImagenet.IMAGES)
    folder = tmp_path / "data" / "miniimagenet"
    folder.mkdir(parents=True)
    for name, content in MiniImagenet().files().items():
        (folder / name).write_bytes(content)
    return str(tmp_path / "data")


def photos(folder: Path) -> None:
    """Nine classes of three images."""
    draw = np.random.default_rng(0)
    for number in range(27):
        place = folder / str(number // 3)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (9, 9, 3), np.uint8)).save(place / f"{number}.png")


def by_hand(cell: cells.Cell, dataset: Dataset, episodes: int) -> list[float]:
    """Accuracies (%) of a learner of grey 28 x 28 images, each made by Pillow, episode by episode."""
    learner = trained(cell, parameters(cell.store, cell.name)).eval()
    pool = dataset.splits["test"]
    native = EpisodeSampler(pool, SHAPE, (dataset.digest, "test", "test"))
    found = []
    for number in range(episodes):
        drawn = native.draw(number, 1)
        small = [
            Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L").resize((28, 28), 2)
            for image in (*drawn.support_x.view(2, 3, 84, 84), *drawn.query_x[0])
        ]
        x = torch.from_numpy(np.stack(small)).float() / 255
        with torch.no_grad():
            support, query = x[:2].view(1, 2, 1, 1, 28, 28), x[2:].view(1, 4, 1, 28, 28)
            answers = learner(support, drawn.support_y, query).argmax(-1)
        found.append(100 * (answers == drawn.query_y).double().mean().item())
    return found


def test_a_glyphs_learner_on_colour_photographs(make, data_root, cache, capsys, undrawn):
    cell = make("algo=protonet", "ways=2", "train.ways=2", "queries=2")
    run.run(cell)
    capsys.readouterr()
    root = cell.store.root

    def probe(*arguments: str) -> int:
        return main(
            [f"results_dir={root}", f"data_root={data_root}", f"cache_dir={cache}", *arguments]
        )

    for arguments, message in MISTAKES.items():
        assert probe(*arguments.split()) == 2
        printed = capsys.readouterr().err
        assert printed.startswith(f"error: {message}") and printed.count("\n") == 1
    assert not list(root.glob("runs/*/shift.csv"))

    photos(root / "photos")
    assert probe("datasets=folder", f"dataset.path={root}/photos", "episodes=2") == 0
    (test,) = Store(root).shifts(cell.name).to_dict("records")
    assert test["dataset"] == "photos"

    assert probe("datasets=miniimagenet,glyphs", "episodes=20") == 0
    (dataset,) = load(["miniimagenet"], DataDirs.of(data_root, cache))
    (test,) = (
        Store(root).shifts(cell.name).to_dict("records")
    )  # not on glyphs, whose test the run has
    assert test["score"] == pytest.approx(np.mean(by_hand(cell, dataset, 20)))
    assert (test["dataset"], test["data_digest"]) == ("miniimagenet", dataset.digest)
    assert (test["episodes"], test["seen"]) == (20, 0)
    native = EpisodeSampler(dataset.splits["test"], SHAPE, (dataset.digest, "test", "test"))
    assert test["episodes_digest"] == native.digest(20)

    assert "shift.md" in capsys.readouterr().out
    assert (root / "figures" / "shift.png").exists() and (root / "shift.tex").exists()
    assert 'id="other-data-sets"' in (root / "report.html").read_text()
    table = pd.read_csv(root / "shift.csv")
    assert table["tested_on"].tolist() == ["glyphs", "miniimagenet"]
    assert table["score"][0] == cell.store.record(cell.name)["score"]
    assert table["difference"][1] == table["score"][1] - table["score"][0]


def test_images_that_were_trained_on_are_counted():
    images = torch.arange(12, dtype=torch.uint8).view(6, 1, 1, 2).repeat(2, 1, 1, 1)

    def dataset(name, **rows):
        return Dataset.of(name, {split: Pool.of({split: images[r]}) for split, r in rows.items()})

    mine = dataset("mine", train=[0, 1], val=[2, 2], test=[3, 4])
    other = dataset("other", train=[5, 5], val=[5, 5], test=[1, 2, 3, 5, 7])
    # of the five, 1 and 7 are the same as one trained on, 2 was validated on, 3 only tested
    assert share_seen(mine, other) == 60
    assert share_seen(other, mine) == 0


def test_too_few_images_are_told(make, data_root, cache):
    cell = make("algo=protonet", "ways=2", "train.ways=2", "queries=4")
    (dataset,) = load(["miniimagenet"], DataDirs.of(data_root, cache))
    with pytest.raises(UserError) as caught:
        others(cell, [cell.dataset, dataset])
    assert str(caught.value).startswith(
        f"{cell.name} cannot be tested on miniimagenet as on its own data set: shots=1 plus "
        "queries=4 is 5 examples a class"
    )


def intents(folder: Path, begin: str) -> None:
    """Nine classes of four texts."""
    folder.mkdir()
    for name in "abcdefghi":
        lines = [f"{begin} {name} {name * number}" for number in range(1, 5)]
        (folder / f"{name}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("backbone", ["bytes", "hashing"])
def test_texts_are_seen_as_those_of_the_run_are(make, tmp_path, backbone, capsys):
    intents(tmp_path / "mine", "this is")
    intents(tmp_path / "theirs", "and this, which is so much longer,")
    algo = "protonet" if backbone == "bytes" else "centroid"
    chosen = ["dataset=textfolder", f"dataset.path={tmp_path}/mine", f"backbone={backbone}"]
    cell = make(f"algo={algo}", *chosen, "ways=2", "queries=2", "train.queries=2")
    run.run(cell)
    root = cell.store.root
    places = [f"results_dir={root}", f"data_root={tmp_path}", f"cache_dir={tmp_path}/cache"]
    assert main([*places, "datasets=textfolder", "dataset.path=theirs", "episodes=5"]) == 0
    (test,) = Store(root).shifts(cell.name).to_dict("records")
    assert (test["dataset"], test["episodes"]) == ("theirs", 5)
    (theirs,) = load(["textfolder"], DataDirs.of(str(tmp_path), None), ["dataset.path=theirs"])
    native = EpisodeSampler(theirs.splits["test"], SHAPE, (theirs.digest, "test", "test"))
    assert test["episodes_digest"] == native.digest(5)
    seen, mine, own = (
        each.pool("test").inputs.shape[1:] for each in (as_seen(cell, theirs), cell.dataset, theirs)
    )
    assert own != mine and seen == (mine if backbone == "bytes" else own)

    (glyphs,) = load(["glyphs"], DataDirs.of(None, None))
    with pytest.raises(UserError, match="was trained on texts, and glyphs has images"):
        others(cell, [glyphs])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"dataset": "a|b"}, "its column dataset holds something other than a name"),
        ({"score": "high"}, "its column score holds something other than a number"),
        ({"seen": None}, "its column seen holds something other than a number"),
    ],
)
def test_what_is_no_test_is_refused(tmp_path, change, complaint):
    good = {"dataset": "x", "data_digest": "1", "episodes": 9, "score": 50.5, "ci95": 1.5}
    path = tmp_path / "runs" / "cell" / "shift.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame([good | {"seen": 0.0} | change]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=complaint):
        Store(tmp_path).shifts("cell")
    pd.DataFrame([good | {"seen": 0.0}] * 2).to_csv(path, index=False)
    with pytest.raises(ValueError, match="it has a data set twice"):
        Store(tmp_path).shifts("cell")
