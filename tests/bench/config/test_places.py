"""Cells on a user's own images: numbers do not depend on where those are, and rows do not tell it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bench import report
from bench.config.schema import last_name
from bench.core.errors import UserError
from bench.runs import run as running
from bench.verify import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six classes of seven images."""
    draw = np.random.default_rng(0)
    for name in "abcdef":
        folder = tmp_path / "user" / "photos" / name
        folder.mkdir(parents=True)
        for number in range(7):
            pixels = draw.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "user" / "photos"


def test_a_run_on_a_folder_is_stored_without_its_place_and_verified(
    make, photos, tmp_path, monkeypatch, capsys, cache
):
    options = ["dataset=folder", "ways=2", "dataset.side=16"]
    cell = make(*options, f"dataset.path={photos}/")
    assert cell.name.startswith("protonet-photos-2w1s-seed0-")
    running.run(cell)
    run = cell.store.runs / cell.name
    for file in run.glob("*.*"):
        assert str(tmp_path).encode() not in file.read_bytes(), file
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert stored["dataset"]["path"] == "photos"

    monkeypatch.chdir(photos.parent)
    assert make(*options, "dataset.path=photos").name == cell.name
    monkeypatch.chdir(tmp_path)
    assert main([str(run), f"cache_dir={cache}", f"data_root={photos.parent}"]) == 0
    assert main([str(run), f"cache_dir={cache}"]) == 1
    assert "There is no photos, neither here nor in" in capsys.readouterr().out
    stored["dataset"]["path"] = str(photos)  # as a stranger might, to look around here
    (run / "config.yaml").write_text(yaml.safe_dump(stored))
    assert main([str(run), f"cache_dir={cache}"]) == 1
    assert "would look into other folders than data_root" in capsys.readouterr().out


def test_what_was_left_out_and_each_test_class_are_stored_and_shown(make, photos, cache, capsys):
    (photos / "a" / "0.png").write_bytes(b"no image")
    options = ["dataset=folder", "ways=2", "dataset.side=16", f"dataset.path={photos}"]
    cell = make(*options, "dataset.skip_unreadable=true", "queries=2")
    record = running.run(cell)
    said = "1 of 42 files, which cannot be read: a/0.png (it is no image that Pillow knows)"
    assert record["left_out"] == said
    run = cell.store.runs / cell.name
    assert main([str(run), f"cache_dir={cache}", f"data_root={photos.parent}"]) == 0
    found = report.gather(cell.store.root)
    texts, _ = report.views(found)
    page, classes = str(texts["report.html"]), str(texts["classes.md"])
    assert said in page and '<section id="classes">' in page
    for name in cell.dataset.splits["test"].names:
        assert f"| {name} | " in classes and f"as {name}" in classes
    assert "95 % interval over the test episodes that have the class" in classes
    assert texts["photographs.md"] is None and "queries" in str(texts["classes.csv"])


def test_a_class_too_small_for_an_episode_is_named_and_can_be_left_out(make, photos):
    shutil.copytree(photos / "a", photos / "g")
    for number in range(1, 7):
        (photos / "g" / f"{number}.png").unlink()
    options = ["dataset=folder", "ways=2", f"dataset.path={photos}"]
    Image.new("RGB", (9, 9)).save(photos / "g" / "0.png")
    Image.new("RGB", (9, 9), "red").save(photos / "g" / "1.png")
    with pytest.raises(UserError, match=r"class 'g' has only 2; .* with dataset.min_images=\.\.\."):
        make(*options)
    made = make(*options, "dataset.min_images=6")
    assert all("g" not in pool.names for pool in made.dataset.splits.values())
    with pytest.raises(
        UserError, match="the 6 classes of photos are too few for that: all of them are"
    ):
        make(*options, "dataset.min_images=6", "ways=3")
    few = [*options, "dataset.min_images=6", "dataset.min_classes=2", "train.ways=20"]
    with pytest.raises(UserError, match="ways=20 is more than") as caught:
        make(*few)
    assert "min_images" not in str(caught.value), "classes are just large enough"


@pytest.mark.parametrize(
    ("path", "name"),
    [("/pictures/photos", "photos"), ("photos/", "photos"), ("../x/./y", "y"), (None, None)],
)
def test_last_names(path, name):
    assert last_name(path) == name


def test_the_last_name_of_here_is_that_of_the_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert last_name(".") == tmp_path.name
