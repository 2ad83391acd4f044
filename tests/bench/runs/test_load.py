"""Stored learners, loaded without their data set and fitted to images in any form."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import bench
from algorithms.backbones.pixels import Pixels
from algorithms.protonet import ProtoNet
from bench.core.errors import UserError
from bench.datasets.images.omniglot import MIDDLES
from bench.runs import cell as cells
from bench.runs import run as running
from bench.runs.load import FewShot
from bench.runs.model import Images
from bench.runs.reload import parameters

SHORT = ["train.examples=240", "validation.times=1", "train.shots=1", "shots=2", "test.episodes=2"]
QUERIES = 5


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def run_of(make, kept):
    """Return the cell of a learner after its run, which is done once for all tests."""

    def cell_of(algo: str, *overrides: str) -> cells.Cell:
        own = [] if algo == "maml" else ["train.ways=5"]
        cell = make(f"algo={algo}", *SHORT, *own, *overrides, f"results_dir={kept}")
        if not cell.finished:
            running.run(cell)
        return cell

    return cell_of


@pytest.fixture
def load(run_of, monkeypatch):
    """Return a loaded learner, in whose making no data set takes part."""

    def loaded(algo: str, *overrides: str) -> tuple[FewShot, cells.Cell]:
        cell = run_of(algo, *overrides)

        def gone(*_, **__):
            raise AssertionError("its data set is gone")

        monkeypatch.setattr("bench.datasets.images.glyphs.prepare", gone)
        return bench.load(cell.store.runs / cell.name), cell

    return loaded


def episode(cell: cells.Cell):
    """Return support images, their labels and query images of a test episode, uint8."""
    batch = cells.build_components(cell).test_source.draw(0, 1)
    labels = batch.support_y.flatten().tolist()
    return batch.support_x.flatten(1, 2)[0], labels, batch.query_x[0], batch


@pytest.fixture
def protonet(load):
    classifier, cell = load("protonet")
    support, labels, queries, _ = episode(cell)
    names = [f"class {label}" for label in labels]
    return (
        classifier,
        support,
        names,
        queries,
        classifier.fit(support, names).predict_proba(queries),
    )


@pytest.mark.parametrize(
    "algo",
    [
        pytest.param("maml", marks=pytest.mark.slow),
        *("reptile", "protonet", "metaoptnet", "matchingnet", "r2d2", "baseline"),
    ],
)
def test_it_answers_as_the_learner_of_the_run_does(load, algo):
    classifier, cell = load(algo)
    support, labels, queries, batch = episode(cell)
    learner = cells.build_learner(cell.config, cell.dataset, cell.train_setting)
    learner.load_state_dict(parameters(cell.store, cell.name))
    with torch.no_grad():
        outputs = learner.eval()(batch.support_x / 255, batch.support_y, batch.query_x / 255)
    found = classifier.fit(support, labels).predict_proba(queries)
    assert found == pytest.approx(outputs.softmax(-1)[0].double().numpy(), abs=1e-5)
    assert classifier.predict(queries) == outputs[0].argmax(-1).tolist()

    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tolist()
    names = [f"class {4 - labels[n]}" for n in order]
    shuffled = classifier.fit([support[n] for n in order], names)
    assert shuffled.classes == [f"class {n}" for n in range(5)]
    if algo in ("protonet", "metaoptnet", "matchingnet", "r2d2"):  # others have a head of an order
        assert shuffled.predict_proba(queries)[:, ::-1] == pytest.approx(found, abs=1e-4)


def test_a_frozen_encoder_sees_the_images_as_in_training(load):
    classifier, cell = load("ridge", "backbone=hog")
    labels = episode(cell)[1]
    pool = cell.dataset.splits["test"]
    batch = cells.build_components(cell).test_source.draw(0, 1)
    learner = cells.build_learner(cell.config, cell.dataset, cell.train_setting).eval()
    outputs = learner(batch.support_x, batch.support_y, batch.query_x)
    source = cells.build_components(cell).test_source
    rows = source.indices(0, 1)[0]
    shots = cell.test_setting.shots
    fitted = classifier.fit(pool.inputs[rows[:, :shots].flatten()], labels)
    found = fitted.predict_proba(pool.inputs[rows[:, shots:].flatten()])
    assert found == pytest.approx(outputs.softmax(-1)[0].double().numpy(), abs=1e-4)


def test_training_mode_handed_out_changes_nothing(protonet):
    classifier, support, names, queries, found = protonet
    classifier.learner.train()
    assert (classifier.predict_proba(queries) == found).all()
    classifier.learner.train()
    assert (classifier.fit(support, names).predict_proba(queries) == found).all()


def test_pixels_may_be_bytes_or_shares_and_nothing_in_between(protonet):
    classifier, _, _, queries, found = protonet
    pixels = queries.numpy()
    for same in (pixels / 255, pixels.astype(np.int64), torch.from_numpy(pixels / np.float32(255))):
        assert (classifier.predict_proba(same) == found).all()
    for wrong in (pixels.astype(float), pixels / 255 - 0.5):
        with pytest.raises(UserError, match="integers in 0..255 or floats in 0..1"):
            classifier.predict_proba(wrong)
    with pytest.raises(UserError, match="no image"):
        classifier.predict_proba([np.zeros((2, 28, 28))])
    for one in (queries[0, 0], np.zeros((28, 28, 3)), "image.png", Image.new("L", (28, 28))):
        with pytest.raises(UserError, match="a list of images or texts, even of one"):
            classifier.predict_proba(one)


def test_images_may_have_any_size_mode_and_file(protonet, tmp_path):
    classifier, _, _, queries, found = protonet
    drawn = [Image.fromarray(each[0].numpy()) for each in queries]
    large = [each.resize((112, 112), Image.Resampling.BICUBIC) for each in drawn]
    wide = [Image.new("RGB", (168, 112)) for _ in large]
    for image, each in zip(wide, large, strict=True):
        image.paste(each, (28, 0))
    files = [tmp_path / f"{n}.png" for n in range(len(drawn))]
    for image, file in zip(drawn, files, strict=True):
        image.save(file)
    columns = [np.asarray(image)[..., None] for image in drawn]
    for same in (drawn, [str(file) for file in files], columns):
        assert (classifier.predict_proba(same) == found).all()
    for near in (large, wide):
        assert (classifier.predict_proba(near).argmax(1) == found.argmax(1)).mean() > 0.8
    with pytest.raises(UserError, match="nothing.png cannot be read: No such file"):
        classifier.predict_proba([tmp_path / "nothing.png"])


def test_ink_may_be_dark_or_bright(protonet):
    classifier, support, names, queries, found = protonet
    assert (classifier.predict_proba(255 - queries) == found).all()
    assert (classifier.fit(255 - support, names).predict_proba(queries) == found).all()


def test_a_drawing_of_omniglot_is_prepared_as_its_archives_are():
    """By the central pixel of each cell, of 1-bit files of 105 x 105 pixels."""
    paper = np.ones((105, 105), bool)
    paper[20:23, 10:90] = paper[30:100, 50:52] = False
    images = Images(shape=(1, 28, 28), resampling="nearest", inverted=True)
    classifier = FewShot("protonet", ProtoNet(Pixels((1, 28, 28)), 5), images, None, 5)
    expected = np.where(paper[np.ix_(MIDDLES, MIDDLES)], 0, 255)
    assert (classifier.prepare(Image.fromarray(paper))[0].numpy() == expected).all()


def test_photographs_are_not_inverted(load, tmp_path):
    """Nor are dark ones: bright stays bright."""
    draw = np.random.default_rng(0)
    for name in ("ant", "bee", "cat", "dog", "eel", "fox"):
        (folder := tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            pixels = draw.integers(0, 256, (16, 16), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    few = ["ways=2", "shots=1", "queries=1", "train.ways=2", "train.queries=1"]
    own = [f"dataset.path={tmp_path}/photos", "dataset.side=16", "dataset.min_classes=2"]
    classifier, cell = load("protonet", "dataset=folder", "dataset.channels=1", *own, *few)
    pool = cell.dataset.splits["test"]
    for name, first in zip(pool.names, pool.offsets.tolist(), strict=False):
        seen = classifier.prepare(tmp_path / "photos" / name / "0.png")
        assert torch.equal(seen, pool.inputs[first])


def test_other_ways_than_it_was_made_for(load, protonet):
    _, support, names, queries, _ = protonet
    maml, _ = load("maml")
    with pytest.raises(
        UserError, match="maml is made for 5 classes, and there are 4: give as many"
    ):
        maml.fit(support[:8], names[:8])
    with pytest.raises(UserError, match="1 class: give those of 2"):
        protonet[0].fit(support[:2], names[:2])
    with pytest.raises(UserError, match="10 images and 9 labels"):
        protonet[0].fit(support, names[:9])
    fitted = protonet[0].fit(support[:4], [1, 1, 0, 0])
    assert fitted.classes == [0, 1] and fitted.predict_proba(queries).shape == (25, 2)


def test_images_of_smaller_classes_are_repeated(protonet):
    classifier, support, names, queries, _ = protonet
    uneven = classifier.fit(support[1:], names[1:]).predict_proba(queries)
    repeated = torch.cat([support[1:2], support[1:]])
    assert (classifier.fit(repeated, names).predict_proba(queries) == uneven).all()


@pytest.mark.parametrize("algo", ["protonet", "maml"])
def test_each_support_image_is_left_out_once(load, algo):
    classifier, cell = load(algo)
    support, labels, _, _ = episode(cell)
    found, truth = classifier.fit(support, labels).leave_one_out()
    assert truth.tolist() == labels
    for n in (0, 7):
        others = [m for m in range(len(labels)) if m != n]
        by_hand = classifier.fit(support[others], [labels[m] for m in others])
        assert found[n] == pytest.approx(by_hand.predict_proba(support[n : n + 1])[0], abs=1e-5)
    alone, classes = classifier.fit(support[1:], labels[1:]).leave_one_out()
    assert classes.tolist() == labels[2:] and alone.shape == (8, 5)


def test_what_cannot_be_loaded_is_told_in_a_sentence(run_of, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="There is no run nowhere"):
        bench.load("nowhere")
    transductive = run_of("maml", "algo.norm_statistics=all_queries")
    with pytest.raises(UserError, match="transductive, so that its answer for an image depends"):
        bench.load(transductive.store.runs / transductive.name)
    cell = run_of("protonet")
    shutil.copytree(cell.store.runs / cell.name, tmp_path / "runs" / cell.name)
    with pytest.raises(UserError, match="fit it to labelled images first"):
        bench.load(tmp_path / "runs" / cell.name).predict([])
    (tmp_path / "runs" / cell.name / "model.json").unlink()
    with pytest.raises(UserError, match=r"model\.json is missing"):
        bench.load(tmp_path / "runs" / cell.name)


def test_a_regression_labels_no_images(make):
    cell = make("algo=nearest_neighbor", "dataset=sinusoid", "backbone=pixels")
    running.run(cell)
    with pytest.raises(UserError, match="labels neither images nor texts"):
        bench.load(cell.store.runs / cell.name)


@pytest.mark.parametrize("shape", [(3, 20, 20), (20, 20, 3), (1, 20, 20), (20, 20)])
def test_one_image_is_no_list_of_images(protonet, shape):
    with pytest.raises(UserError, match="Give a list of images or texts, even of one"):
        protonet[0].predict(np.zeros(shape, np.uint8))
