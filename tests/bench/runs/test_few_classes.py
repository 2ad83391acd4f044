"""A folder of a few classes from photographs to the report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench import report
from bench.core.errors import UserError
from bench.runs import run
from bench.runs.store import Store
from bench.verify import main as verify


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 9 and 10 photographs that differ in colour more than within."""
    root = tmp_path_factory.mktemp("data") / "mine"
    draw = np.random.default_rng(0)
    for name, count, colour in (("NA", 9, 100), ("leaf, dry", 10, 130)):
        (root / name).mkdir(parents=True)
        for each in range(count):
            pixels = draw.normal(colour, 25) + draw.normal(0, 30, (12, 12, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / name / f"{each}.png")
    return root


@pytest.fixture
def of_folder(make, root):
    def cell(*overrides: str):
        options = ("dataset=folder", f"dataset.path={root}", "test.episodes=40", "ways=2")
        return make(*options, *overrides)

    return cell


def test_two_classes_of_photographs_from_run_to_page(of_folder, root, cache, tmp_path, caplog):
    cells = [of_folder(f"algo={algo}", "floors=[]") for algo in ("nearest", "nearest_neighbor")]
    first, second = [run.run(cell) for cell in cells]
    assert first["photos"] == 19 and first["queries"] is None and first["episodes"] == 40
    assert first["episodes_digest"] == second["episodes_digest"]
    folder = cells[0].store.runs / cells[0].name
    assert not (folder / "episodes.csv").exists()
    assert pd.read_csv(folder / "probe.csv")["value"].tolist() == [1, 2, 3, 5]
    assert verify([str(folder), f"cache_dir={cache}", f"data_root={root.parent}"]) == 0

    found = report.gather(tmp_path / "results")
    texts, drawn = report.views(found)
    (board,) = found.boards
    assert board.unit == "photographs"
    assert board.standings[0].ci95_episodes in (first["ci95"], second["ci95"])
    table = str(texts["photographs.md"])
    assert "| 9 " not in table and "all 9 | 18, if there were" in table
    classes = str(texts["classes.md"])
    assert "| Class | Nearest" in classes and "| Class | as NA | as leaf, dry |" in classes
    assert "95 % interval for other photographs of these classes, by 19" in str(
        texts["accuracy.md"]
    )
    assert "± photographs" in str(texts["leaderboard.md"])
    assert "19 photographs, the same for all" in str(texts["report.html"])
    assert '<section id="classes">' in str(texts["report.html"])
    panel = drawn["photographs"].panels[0]
    assert not drawn["adaptation"].panels
    dashed, measured = panel.series[0], panel.series[1]
    assert measured.x == [1, 2, 3, 5] and dashed.x == [5, 9, 18] and not dashed.ends
    assert dashed.label == measured.label and "extrapolated" in dashed.hover[-1]

    edited = json.loads((folder / "record.json").read_text()) | {"photos": 18}
    (folder / "record.json").write_text(json.dumps(edited))
    assert len(report.read(tmp_path / "results")[0]) == 1
    assert "photos.csv: it does not hold 18 scores" in caplog.text


def test_what_needs_a_training_says_so(of_folder):
    with pytest.raises(
        UserError, match="protonet has to be trained, and the 2 classes of mine.*backbone=run"
    ):
        of_folder("algo=protonet")
    with pytest.raises(UserError, match="In the test split of mine, shots=8 of the 9 .* at most 7"):
        of_folder("algo=nearest", "shots=8")
    with pytest.raises(UserError, match="ways=3 is more than the 2 classes"):
        of_folder("algo=nearest", "ways=3", "dataset.min_classes=2")


def test_its_floors_are_nearest_on_pixels_and_on_histograms(of_folder):
    config = of_folder("algo=nearest", "floors=[nearest,nearest_hog]").config
    assert config.floors == ["nearest", "nearest_hog"]


@pytest.mark.parametrize("spoil", ["as NA,other", "as NA,as leaf", "accuracy,as b"])
def test_damaged_classes_are_told(tmp_path, spoil):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    lines = f"class,photos,ci95,{spoil}\na,3,4,5,6\nb,3,4,5,x\n"
    (tmp_path / "runs" / "a" / "classes.csv").write_text(lines)
    with pytest.raises(ValueError, match="it has no"):
        Store(tmp_path).classes("a")


def test_three_photographs_a_class_are_probed_as_far_as_they_reach(make, root):
    place = root.parent / "three each"
    for name in ("NA", "leaf, dry"):
        (place / name).mkdir(parents=True)
        for each in range(3):
            (place / name / f"{each}.png").write_bytes((root / name / f"{each}.png").read_bytes())
    cell = make("dataset=folder", f"dataset.path={place}", "ways=2", "algo=nearest")
    assert run.run(cell)["status"] == "done"
    assert cell.store.trials(cell.name)["value"].astype(int).tolist() == [1]
