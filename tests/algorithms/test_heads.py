"""Heads without training against scikit-learn, and what they owe without parameters."""

import numpy as np
import pytest
import torch
from sklearn import linear_model, neighbors, svm

from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.pixels import Pixels
from algorithms.centroid import NearestCentroid
from algorithms.knn import NearestNeighbor
from algorithms.learner import Setting
from algorithms.logistic import LogisticRegression
from algorithms.losses import SquaredError
from algorithms.ridge import Ridge
from algorithms.svm import SVM
from bench.check import laws
from bench.check.tasks import random_episodes

SILENT = [laws.overfits_one_episode, laws.rejects_unsupported_settings]  # there is no training
SILENT += [laws.a_lone_query_is_all_queries, laws.a_query_joins_the_support_set]
if not torch.cuda.is_available():
    SILENT += [laws.keeps_cuda, laws.a_step_can_be_recorded]
FEATURES = 40


def learner() -> NearestCentroid:
    return NearestCentroid(Pixels(laws.IMAGE), laws.WAYS)


def answers(head, ways=5, shots=4):
    """Support features and labels, queries, and a head's outputs for each of two tasks."""
    generator = torch.Generator().manual_seed(0)
    middle = torch.randn(2, ways, 1, FEATURES, generator=generator).double()
    support = middle + torch.randn(2, ways, shots, FEATURES, generator=generator)
    query = (middle + torch.randn(2, ways, 6, FEATURES, generator=generator)).flatten(1, 2)
    labels = torch.arange(ways)[:, None].expand(2, ways, shots)
    outputs = head(support, labels, query)
    for task in range(2):
        rows = support[task].flatten(0, 1).numpy(), labels[task].flatten().numpy()
        yield *rows, query[task].numpy(), outputs[task].detach().numpy()


def test_a_query_has_the_class_of_the_nearest_mean_of_pixels():
    episodes = random_episodes(2, 4, shots=3, queries=2)
    logits = learner()(episodes.support_x, episodes.support_y, episodes.query_x)
    for task in range(2):
        means = [images.mean(0) for images in episodes.support_x[task]]
        for query, answer in zip(episodes.query_x[task], logits[task], strict=True):
            distances = torch.stack([-(query - mean).square().sum() for mean in means])
            torch.testing.assert_close(answer, distances)


def test_centred_centroids_are_those_of_features_of_unit_length_around_the_mean():
    for x, y, query, outputs in answers(NearestCentroid(Pixels((FEATURES,)), 5, center=True)):
        support, queries = (
            rows / np.linalg.norm(rows, axis=1, keepdims=True)
            for rows in (x - x.mean(0), query - x.mean(0))
        )
        means = np.stack([support[y == label].mean(0) for label in range(5)])
        distances = ((queries[:, None] - means) ** 2).sum(-1)
        np.testing.assert_allclose(outputs, -distances)


@pytest.mark.parametrize("count", [1, 3, 99])
def test_neighbours_are_those_of_scikit_learn(count):
    for x, y, query, outputs in answers(NearestNeighbor(Pixels((FEATURES,)), 5, neighbors=count)):
        peer = neighbors.KNeighborsClassifier(min(count, len(x)), weights="distance").fit(x, y)
        np.testing.assert_allclose(outputs, peer.predict_proba(query), atol=1e-9)


def test_a_neighbour_at_no_distance_decides_alone():
    head = NearestNeighbor(Pixels((1,)), 2, neighbors=3)
    head.loss = SquaredError()
    support = torch.tensor([[[[0.0], [1.0], [2.0]]]]).double()
    found = head(support, 10 * support, torch.tensor([[[1.0]]]).double())
    torch.testing.assert_close(found, torch.tensor([[[10.0]]]).double(), atol=1e-4, rtol=0)


def test_no_neighbour_is_no_head():
    with pytest.raises(ValueError, match="neighbors must be at least 1, not 0"):
        NearestNeighbor(Pixels((1,)), 2, neighbors=0)


def test_ridge_is_that_of_scikit_learn():
    head = Ridge(Pixels((FEATURES,)), 5, ridge_lambda=0.3, scale=7.0)
    for x, y, query, outputs in answers(head):
        ones = np.ones((len(x), 1))  # the bias is regularised as well
        peer = linear_model.Ridge(0.3 * len(x), fit_intercept=False)
        peer.fit(np.c_[x, ones], np.eye(5)[y])
        expected = peer.predict(np.c_[query, np.ones((len(query), 1))])
        np.testing.assert_allclose(outputs, 7 * expected, rtol=1e-5, atol=1e-6)


def test_the_svm_agrees_with_liblinear():
    head = SVM(Pixels((FEATURES,)), 5, svm_c=0.1, scale=1.0)
    for x, y, query, outputs in answers(head):
        peer = svm.LinearSVC(C=0.1, multi_class="crammer_singer", fit_intercept=False, tol=1e-8)
        assert (peer.fit(x, y).predict(query) == outputs.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("ways", [2, 5])
def test_logistic_regression_is_that_of_scikit_learn_on_all_features(ways):
    head = LogisticRegression(Pixels((FEATURES,)), ways, c=0.5, max_iter=1000)
    for x, y, query, outputs in answers(head, ways):
        peer = linear_model.LogisticRegression(C=0.5, max_iter=1000, tol=1e-8).fit(x, y)
        mine = torch.from_numpy(outputs).softmax(-1).numpy()
        np.testing.assert_allclose(mine, peer.predict_proba(query), atol=1e-3)


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_on_pixels_it_obeys_the_laws(law):
    with laws.default_dtype(torch.float64):
        if law in SILENT:
            with pytest.raises(laws.NotApplicableError):
                law(learner())
        else:
            law(learner())


HEADS = [
    NearestCentroid(Conv4(laws.IMAGE, filters=4), laws.WAYS),
    NearestNeighbor(Conv4(laws.IMAGE, filters=4), laws.WAYS),
    Ridge(Conv4(laws.IMAGE, filters=4), laws.WAYS, ridge_lambda=1.0, scale=1.0),
    SVM(Conv4(laws.IMAGE, filters=4), laws.WAYS, svm_c=1.0, scale=1.0),
    LogisticRegression(Conv4(laws.IMAGE, filters=4), laws.WAYS, c=1.0, max_iter=100),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_nothing_of_it_is_trained_on_any_backbone(head):
    head = head.double()
    assert not head.trainable and not head.trains_backbone
    assert head.supports(Setting(3, 1, 0), Setting(5, 1, 5)) == (True, "")
    assert head.meta_gradient(random_episodes(2, 3, shots=1, queries=2))["loss"] > 0
    assert all(parameter.grad is None for parameter in head.parameters())
