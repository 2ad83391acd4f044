"""Heads on the trained backbone of a stored run."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save

import bench
from bench.core.errors import UserError
from bench.runs import run as running
from bench.runs.backbone import StoredBackbone
from bench.verify import main as verify
from tests.bench.runs.test_load import SHORT


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def run_of(make, kept):
    """Return the folder of a run, which is done once for all tests."""

    def folder_of(algo: str, *overrides: str) -> Path:
        cell = make(f"algo={algo}", *SHORT, *overrides, f"results_dir={kept}")
        if not cell.finished:
            running.run(cell)
        return cell.store.runs / cell.name

    return folder_of


@pytest.fixture
def protonet(run_of):
    return run_of("protonet", "train.ways=5")


def test_features_are_those_of_the_run(protonet, make):
    encoder = StoredBackbone((), path=str(protonet)).eval()
    pool = make(*SHORT).dataset.splits["test"]
    images = [Image.fromarray(each[0].numpy()) for each in pool.inputs[:5]]
    prepared = torch.stack([encoder.prepare(image) for image in images])
    assert torch.equal(prepared, pool.inputs[:5])
    learner = bench.load(protonet).learner
    with torch.no_grad():
        found, wanted = encoder.encode(prepared), learner.backbone(prepared[None] / 255)[0]
        assert torch.equal(found, wanted) and found.shape == (5, encoder.num_features)
        assert encoder.encode(prepared[:1]) == pytest.approx(found[:1].numpy(), abs=1e-5)
    dark = Image.fromarray(255 - pool.inputs[0, 0].numpy()).convert("RGB")
    assert torch.equal(encoder.prepare(dark), pool.inputs[0]), "as it learned: bright ink"
    assert encoder.pretrained.startswith(
        f"protonet on glyphs, trained on its train classes, run {protonet.name}, weights "
    )


@pytest.fixture
def mine(tmp_path):
    photographs(tmp_path / "mine", 3)
    return ["dataset=folder", f"dataset.path={tmp_path}/mine", "test.episodes=20", "ways=3"]


@pytest.mark.parametrize("algo", ["centroid", "knn", "ridge", "svm", "logistic"])
def test_all_heads_work_on_it_and_its_data_may_be_gone(make, protonet, mine, monkeypatch, algo):
    monkeypatch.setattr("bench.datasets.images.glyphs.prepare", None)
    record = running.run(make(f"algo={algo}", "backbone=run", f"backbone.path={protonet}", *mine))
    assert record["pretrained"].startswith("protonet on glyphs") and not record["backbone_options"]
    assert record["score"] > 60


def test_learners_that_train_have_a_linear_map_on_it(make, protonet):
    cell = make("algo=protonet", "backbone=run", f"backbone.path={protonet}", *SHORT)
    record = running.run(cell)
    (features,) = cell.dataset.input_shape
    assert record["parameters"] == features * (features + 1) + 1, "a scale too"


def test_a_head_is_verified_and_used_where_its_backbone_lies_beside_it(
    make, protonet, mine, tmp_path, monkeypatch, cache
):
    copied(protonet, tmp_path / "results")
    cell = make("algo=ridge", "backbone=run", f"backbone.path={protonet}", *mine)
    running.run(cell)
    folder = cell.store.runs / cell.name
    assert str(protonet.parent) not in (folder / "config.yaml").read_text()
    monkeypatch.chdir(cache)
    assert verify([str(folder), f"cache_dir={cache}", f"data_root={tmp_path}"]) == 0
    files = sorted((tmp_path / "mine").rglob("*.png"))
    labels = [path.parent.name for path in files]
    found = bench.load(folder).fit(files, labels).predict(files)
    assert np.mean(np.array(found) == labels) > 0.6


def photographs(root: Path, classes: int) -> None:
    """Classes of eight images each, which differ in shape."""
    draw = np.random.default_rng(0)
    for number in range(classes):
        (root / f"class {number}").mkdir(parents=True)
        for each in range(8):
            pixels = np.full((40, 40, 3), 255, np.uint8)
            pixels[5 : 35 - 10 * number, 5 : 15 + 10 * number] = draw.integers(0, 90)
            noise = draw.integers(-8, 8, pixels.shape)
            image = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
            image.save(root / f"class {number}" / f"{each}.png")


@pytest.mark.parametrize("algo", ["maml", "reptile"])
def test_batch_norm_without_running_averages_gets_those_of_training_images(run_of, make, algo):
    run = run_of(algo, "train.shots=5")
    encoder = StoredBackbone((), path=str(run)).eval()
    images = make(*SHORT).dataset.splits["train"].inputs[::40]
    with torch.no_grad():
        found = encoder.encode(images)
        alone = torch.cat([encoder.encode(each[None]) for each in images])
        network = bench.load(run).learner.network
        together = network.backbone(images[None] / 255)[0]
    assert found == pytest.approx(alone.numpy(), abs=1e-4)
    assert torch.corrcoef(torch.stack([found.flatten(), together.flatten()]))[0, 1] > 0.9
    weights = load_file(run / "model.safetensors")
    kept = {name: each for name, each in weights.items() if not name.startswith("statistics.")}
    assert len(weights) - len(kept) == 8
    content = save(kept)
    (run / "model.safetensors").write_bytes(content)
    path = run / "model.json"
    facts = json.loads(path.read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="by those of their task, and no averages .*overwrite=true"):
        StoredBackbone((), path=str(run))


def test_a_classifier_of_scikit_learn_has_it_too(protonet, tmp_path):
    photographs(tmp_path, 2)
    files = sorted(tmp_path.rglob("*.png"))
    labels = [path.parent.name for path in files]
    made = bench.Classifier("centroid", "run", {"backbone.path": str(protonet)})
    assert made.fit(files, labels).score(files, labels) > 0.8


def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "runs" / run.name))


def test_what_is_no_backbone_is_told(run_of, protonet, make, tmp_path):
    for place, message in (
        ("nowhere", "There is no folder nowhere, .* backbone.path=FOLDER"),
        (tmp_path, "There is no run .*, neither here nor under results/runs: name the folder of"),
    ):
        with pytest.raises(UserError, match=message):
            make("algo=ridge", "backbone=run", f"backbone.path={place}")
    for algo, options, message in (
        ("nearest", (), "has trained no backbone: name a run that has"),
        (
            "ridge",
            ("backbone=hog",),
            "learned on features of hog: choose backbone=hog, as that run did",
        ),
    ):
        run = run_of(algo, *options)
        with pytest.raises(UserError, match=message):
            make("algo=ridge", "backbone=run", f"backbone.path={run}")
    run = copied(protonet, tmp_path)
    with pytest.raises(UserError, match="their digest is [0-9a-f]{16}, not 0123"):
        make("algo=ridge", "backbone=run", f"backbone.path={run}", "backbone.digest='0123'")
    (run / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="model.safetensors is damaged .*overwrite=true"):
        make("algo=ridge", "backbone=run", f"backbone.path={run}")
    (run / "model.safetensors").unlink()
    with pytest.raises(UserError, match="model.safetensors is missing: overwrite=true"):
        make("algo=ridge", "backbone=run", f"backbone.path={run}")


def test_a_run_on_other_examples_than_images_is_told(make, tmp_path):
    options = ["dataset=sinusoid", "ways=null", "shots=5", "queries=5", "train.examples=100"]
    cell = make(
        "algo=maml", "backbone=mlp", "with/algo=sinusoid/maml", *options, "validation.times=1"
    )
    running.run(cell)
    with pytest.raises(UserError, match="labels neither images nor texts"):
        StoredBackbone((), path=str(cell.store.runs / cell.name))


def test_cells_on_other_photographs_of_equal_small_images_have_other_names(make, tmp_path):
    photographs(tmp_path / "a" / "mine", 3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.png"):
        with Image.open(path) as image:
            image.save(path, compress_level=0)
    made = {
        algo: [make(*algo, "dataset=folder", "ways=3", f"dataset.path={tmp_path}/{each}/mine").name
               for each in "ab"]
        for algo in (("algo=nearest",), ("algo=ridge", "backbone=hog"))
    }  # fmt: skip
    small, encoded = made.values()
    assert small[0] == small[1] and encoded[0] != encoded[1]
