"""What every learner of conf/algo owes, on every backbone of conf/backbone."""

import copy
import importlib.util
from functools import cache
from pathlib import Path

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.learner import Episodes, Learner, Shape
from bench import config, usage
from tests.algorithms.tasks import random_episodes

BACKBONES = {
    "strided": ["backbone=conv4", "backbone.filters=8", "backbone.downsample=stride"],
    "pooled": ["backbone=conv4", "backbone.filters=8"],
    "mlp": ["backbone=mlp", "backbone.hidden=16"],
}
WAYS = 3
PEERS = [name for name in usage.names("algo") if name.startswith("learn2learn/")]
ALGOS = [
    name
    for name in usage.names("algo")
    if name not in PEERS or importlib.util.find_spec("learn2learn")
]


@pytest.fixture(autouse=True)
def double_precision():
    """learn2learn's SVM makes its one-hot labels in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(algo: str, backbone: str = "strided", *options: str) -> Learner:
    """A float64 learner for 16x16 images, with running statistics away from their start."""
    return copy.deepcopy(made(algo, backbone, *options))


@cache
def made(algo: str, backbone: str, *options: str) -> Learner:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(usage.CONF), version_base="1.3"):
        cell = config.read(
            hydra.compose("config", [f"algo={algo}", *BACKBONES[backbone], *options])
        )
    torch.manual_seed(0)
    network = cell.backbone.resolve()((1, 16, 16), **cell.backbone.options)
    learner = cell.algo.resolve()(network, WAYS, **cell.algo.options).double()
    if algo.endswith("reptile"):
        learner.test_inner_steps, learner.inner_rate = 3, 0.01
    learner.meta_gradient(training_episodes(learner))
    learner.zero_grad()
    return learner


def training_episodes(learner: Learner, tasks: int = 4, seed: int = 0) -> Episodes:
    queries = 3 if learner.supports(Shape(WAYS, 2, 3), Shape(WAYS, 2, 3))[0] else 0
    return random_episodes(tasks, WAYS, shots=2, queries=queries, seed=seed)


def classify(learner: Learner, episodes: Episodes) -> torch.Tensor:
    with torch.no_grad():
        return learner(episodes.support_x, episodes.support_y, episodes.query_x)


pytestmark = pytest.mark.parametrize("algo", ALGOS)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_forward_is_adapt_and_predict(algo, backbone):
    learner = make(algo, backbone).eval()
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    adapted = learner.adapt(episodes.support_x, episodes.support_y)
    logits = learner.predict(adapted, episodes.query_x)
    assert logits.shape == (2, WAYS * 2, WAYS)
    assert logits.dtype == torch.float64
    torch.testing.assert_close(classify(learner, episodes), logits)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_tasks_of_an_evaluation_do_not_touch_each_other(algo, backbone):
    learner = make(algo, backbone).eval()
    episodes = random_episodes(3, WAYS, shots=2, queries=2)
    together = classify(learner, episodes)
    for task in range(3):
        alone = classify(learner, Episodes(*(part[task : task + 1] for part in episodes)))
        torch.testing.assert_close(alone[0], together[task])


def test_a_prediction_depends_on_other_queries_only_where_the_learner_says_so(algo):
    learner = make(algo).eval()
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    changed = episodes.query_x.clone()
    changed[:, 1:] *= 0.3
    first = classify(learner, episodes)[:, 0]
    again = classify(learner, episodes._replace(query_x=changed))[:, 0]
    if algo in PEERS:
        assert learner.transductive == ((first - again).abs().max() > 1e-6)
        return
    assert not learner.transductive, "the fair default"
    torch.testing.assert_close(again, first)
    for statistics in learner.statistics_choices:
        learner.statistics = statistics
        first = classify(learner, episodes)[:, 0]
        again = classify(learner, episodes._replace(query_x=changed))[:, 0]
        assert (
            ((first - again).abs().max() > 1e-6)
            == learner.transductive
            == (statistics == "queries")
        )


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_lone_query_is_the_only_one_of_all_queries(algo, backbone):
    learner = make(algo, backbone).eval()
    if "lone_query" not in learner.statistics_choices:
        return
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    learner.statistics = "lone_query"
    lone = classify(learner, episodes)
    learner.statistics = "queries"
    for query in range(lone.shape[1]):
        one = episodes._replace(query_x=episodes.query_x[:, query : query + 1])
        torch.testing.assert_close(classify(learner, one)[:, 0], lone[:, query])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_query_with_the_support_set_is_normalised_as_one_more_of_its_images(algo, backbone):
    """By the images of the support set and itself, or where it only looks on, by theirs alone."""
    learner = make(algo, backbone).eval()
    if "support" not in learner.statistics_choices:
        return
    episodes = random_episodes(2, WAYS, shots=1, queries=1)
    query = episodes.support_x[:, 0]
    learner.statistics = "support"
    looking_on = classify(learner, episodes._replace(query_x=query))
    learner.statistics = "queries"
    among = classify(learner, episodes._replace(query_x=episodes.support_x.flatten(1, 2)))
    torch.testing.assert_close(looking_on[:, 0], among[:, 0])
    learner.statistics = "one_query"
    twice = torch.cat((episodes.support_x.flatten(1, 2), query), 1)
    one = classify(learner, episodes._replace(query_x=query))
    learner.statistics = "queries"
    torch.testing.assert_close(
        one[:, 0], classify(learner, episodes._replace(query_x=twice))[:, -1]
    )


def test_the_place_of_a_query_tells_nothing_of_its_class(algo):
    """Queries come class by class: who looked at their order would know the answers."""
    learner = make(algo).eval()
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for statistics in learner.statistics_choices or (learner.statistics,):
        learner.statistics = statistics
        shuffled = classify(learner, episodes._replace(query_x=episodes.query_x[:, order]))
        torch.testing.assert_close(shuffled, classify(learner, episodes)[:, order])


def test_evaluation_changes_nothing(algo):
    learner = make(algo).eval()
    before = copy.deepcopy(learner.state_dict())
    classify(learner, random_episodes(2, WAYS, shots=2, queries=2))
    for name, value in learner.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)
    assert all(p.grad is None for p in learner.parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_outer_gradient_reaches_every_meta_parameter(algo, backbone):
    learner = make(algo, backbone)
    metrics = learner.meta_gradient(training_episodes(learner))
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    for name, parameter in learner.named_parameters():
        if parameter.grad is not None:  # fused optimizers take both for plain memory
            assert parameter.grad.stride() == parameter.stride(), name
    assert metrics["loss"].shape == metrics["accuracy"].shape == ()
    assert 0 <= metrics["accuracy"] <= 1
    assert not metrics["loss"].requires_grad


def test_the_outer_gradient_adds_up_and_does_not_depend_on_chunks(algo):
    learner = make(algo)
    gradients, buffers = [], []
    if algo not in PEERS:  # whose tasks are always one at a time
        torch.set_num_threads(2)  # so that chunks run side by side
    for tasks_at_once in (None,) if algo in PEERS else (None, 3, 1):
        fresh = copy.deepcopy(learner)
        fresh.tasks_at_once = tasks_at_once
        episodes = training_episodes(fresh)
        loss = fresh.meta_gradient(episodes)["loss"]
        gradients.append([p.grad.clone() for p in fresh.parameters() if p.requires_grad])
        buffers.append(dict(fresh.named_buffers()))
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)
    assert loss > 0
    for other in buffers[1:]:
        torch.testing.assert_close(other, buffers[0])

    twice = copy.deepcopy(learner)
    for parameter in twice.parameters():
        parameter.grad = torch.ones_like(parameter)
    twice.meta_gradient(training_episodes(twice))
    added = [p.grad - 1 for p in twice.parameters() if p.requires_grad]
    for one, two in zip(gradients[0], added, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def test_naming_the_classes_in_another_order_renames_the_answers(algo):
    """Heads with one output a class get their rows in that order, too."""
    # The peer keeps the second moments of its head where we cannot put them in another order.
    options = ["algo.inner_optimizer=sgd"] if algo == "learn2learn/reptile" else []
    learner = make(algo, "strided", *options).eval()
    if algo.endswith("reptile"):  # one mini-batch, so that its images are the same in any order
        learner.test_inner_batch = WAYS * 2
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    order = torch.tensor([2, 0, 1])
    expected = classify(learner, episodes)[..., order]
    for name, value in learner.state_dict().items():
        if "head" in name and value.ndim:
            value.copy_(value[order])
    images = episodes.support_x[:, order]
    torch.testing.assert_close(classify(learner, episodes._replace(support_x=images)), expected)


def test_it_learns(algo):
    """A few outer steps on one meta-batch get it mostly right; it started near chance."""
    learner = make(algo)
    sgd = algo.endswith("reptile")
    if sgd:
        learner.test_inner_steps = 20
    optimizer = (
        torch.optim.SGD(learner.parameters(), lr=1.0)
        if sgd
        else torch.optim.Adam(learner.parameters(), lr=0.01)
    )
    episodes = training_episodes(learner, tasks=4, seed=5)
    for _ in range(40):
        optimizer.zero_grad()
        learner.meta_gradient(episodes)
        optimizer.step()
    learner.eval()
    test = random_episodes(4, WAYS, shots=2, queries=3, seed=5)
    right = (classify(learner, test).argmax(-1) == test.query_y).double().mean()
    assert right > 0.85


def test_two_copies_do_the_same(algo):
    one = make(algo)
    other = copy.deepcopy(one)
    for learner in (one, other):
        learner.meta_gradient(training_episodes(learner))
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        if p.requires_grad:
            assert torch.equal(p.grad, q.grad)


def test_a_learner_says_no_politely(algo):
    learner = make(algo)
    ok, reason = learner.supports(Shape(WAYS, 2, 0), Shape(WAYS, 1, 5))
    other, why = learner.supports(Shape(WAYS, 2, 3), Shape(WAYS, 1, 5))
    assert ok != other, "a learner trains either with queries or without"
    assert "train.queries" in (reason or why)


def test_learners_own_no_files_clocks_devices_or_seeds(algo):
    source = (Path(__file__).parents[2] / "algorithms" / f"{algo}.py").read_text()
    for word in ("print(", "open(", "import time", ".cuda(", "torch.manual_seed", "import bench"):
        assert word not in source
