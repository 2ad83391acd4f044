"""What every learner of conf/algo owes, on every backbone of conf/backbone."""

import contextlib
import copy
import importlib.util
import inspect
import math
from functools import cache
from pathlib import Path
from statistics import fmean

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.learner import Episodes, Learner, Shape
from bench import config, usage
from tests.algorithms.tasks import random_episodes, shuffled

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
SAME_CODE = ("fomaml", "metaoptnet_rr", "metasgd")
"""Settings that run the code of maml with another outer gradient, and are held to the laws of that."""
OF_GRADIENTS = (
    "test_the_outer_gradient_reaches_every_meta_parameter",
    "test_the_outer_gradient_adds_up_and_does_not_depend_on_chunks",
    "test_the_outer_loop_can_learn_one_episode_by_heart",
)

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


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
    if learner.learns_classes:
        learner.test_epochs, learner.head_rate = 5, 0.3
    learner.meta_gradient(training_episodes(learner))
    learner.zero_grad()
    return learner


def training_episodes(learner: Learner, tasks: int = 4, seed: int = 0) -> Episodes:
    queries = 3 if learner.supports(Shape(WAYS, 2, 3), Shape(WAYS, 2, 3))[0] else 0
    return random_episodes(tasks, WAYS, shots=2, queries=queries, seed=seed)


def classify(learner: Learner, episodes: Episodes) -> torch.Tensor:
    with torch.no_grad():
        return learner(episodes.support_x, episodes.support_y, episodes.query_x)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    left_out = () if metafunc.function.__name__ in OF_GRADIENTS else SAME_CODE
    metafunc.parametrize("algo", [name for name in ALGOS if name not in left_out])


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
        reordered = classify(learner, episodes._replace(query_x=episodes.query_x[:, order]))
        torch.testing.assert_close(reordered, classify(learner, episodes)[:, order])


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
    if learner.learns_classes:
        learner.test_batch = WAYS * 2
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    order = torch.tensor([2, 0, 1])
    expected = classify(learner, episodes)[..., order]
    for name, value in learner.state_dict().items():
        if "head" in name and value.ndim:
            value.copy_(value[order])
    images = episodes.support_x[:, order]
    torch.testing.assert_close(classify(learner, episodes._replace(support_x=images)), expected)


def test_the_order_of_tasks_and_of_the_images_of_a_class_does_not_matter(algo):
    # The peer's Adam goes from task to task with its moments, which so depend on their order.
    options = ["algo.inner_optimizer=sgd"] if algo == "learn2learn/reptile" else []
    learner = make(algo, "strided", *options)
    if algo.endswith("reptile"):
        learner.inner_batch = learner.test_inner_batch = WAYS * 2
    if learner.learns_classes:
        learner.test_batch = WAYS * 2
    tasks = torch.tensor([2, 0, 3, 1])

    def reordered(episodes: Episodes) -> Episodes:
        first, others = episodes.support_x[:, :1], episodes.support_x[:, 1:].flip(2)
        episodes = episodes._replace(support_x=torch.cat((first, others), 1))
        return Episodes(*(part[tasks] for part in episodes))

    gradients, buffers, episodes = [], [], training_episodes(learner)
    for each in (episodes, reordered(episodes)):
        fresh = copy.deepcopy(learner)
        fresh.meta_gradient(each)
        gradients.append([p.grad for p in fresh.parameters() if p.requires_grad])
        buffers.append(dict(fresh.named_buffers()))
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
    if algo not in PEERS:  # whose running statistics move once a task
        torch.testing.assert_close(*buffers)
    learner.eval()
    episodes = random_episodes(4, WAYS, shots=2, queries=2)
    answers = classify(learner, episodes)[tasks]
    torch.testing.assert_close(classify(learner, reordered(episodes)), answers)


def test_adaptation_and_the_outer_gradient_leave_the_meta_parameters_as_they_are(algo):
    learner = make(algo)
    before = copy.deepcopy(dict(learner.named_parameters()))
    episodes = training_episodes(learner)
    for training in (True, False):
        learner.train(training)
        learner.predict(learner.adapt(*episodes[:2]), episodes.support_x.flatten(1, 2))
        assert all(p.grad is None for p in learner.parameters())
    learner.train().meta_gradient(episodes)
    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(("device", "dtype"), [
    ("cpu", torch.float32), ("cpu", torch.float64),
    pytest.param("cuda", torch.float32, marks=NEEDS_CUDA),
], ids=str)  # fmt: skip
def test_everything_keeps_the_dtype_and_the_device_of_the_learner(algo, device, dtype):
    learner = make(algo).to(device, dtype)
    made_by_default = contextlib.nullcontext()
    if algo in PEERS:
        torch.set_default_dtype(dtype)
    else:  # what is made without a word about its kind would be of another kind
        torch.set_default_dtype(torch.float64 if dtype == torch.float32 else torch.float32)
        made_by_default = torch.device("meta")
    x, y, queries, labels, classes = (part.to(device) for part in training_episodes(learner))
    episodes = Episodes(x.to(dtype), y, queries.to(dtype), labels, classes)
    with made_by_default:
        metrics = learner.meta_gradient(episodes)
        logits = classify(learner.eval(), episodes._replace(query_x=episodes.support_x[:, 0]))
    gradients = [p.grad for p in learner.parameters() if p.requires_grad]
    for tensor in (logits, metrics["loss"], *gradients, *learner.state_dict().values()):
        if not torch.is_tensor(tensor):
            continue
        assert tensor.device.type == device
        assert tensor.dtype == dtype or not tensor.is_floating_point()
    assert metrics["accuracy"].device.type == device


def outer_optimizer(learner: Learner) -> torch.optim.Optimizer:
    """Without queries to learn from, the outer gradient is a step to take whole."""
    if learner.learns_from_queries:
        return torch.optim.Adam(learner.parameters(), lr=0.01)
    return torch.optim.SGD(learner.parameters(), lr=1.0)


def share_right(learner: Learner, episodes: Episodes) -> float:
    right = classify(learner.eval(), episodes).argmax(-1) == episodes.query_y
    learner.train()
    return right.double().mean().item()


def test_the_outer_loop_can_learn_one_episode_by_heart(algo):
    """Its labels are shuffled, so that adaptation alone gets it wrong."""
    learner = make(algo)
    learner.test_inner_steps = 1
    episode = shuffled(training_episodes(learner, tasks=1, seed=7))
    test = episode
    if not learner.learns_from_queries:
        x, y = episode.support_x.flatten(1, 2), episode.support_y.flatten(1)
        test = episode._replace(query_x=x, query_y=y)
    assert share_right(learner, test) < 0.7
    optimizer = outer_optimizer(learner)
    for _ in range(12):
        for _ in range(5):
            optimizer.zero_grad()
            learner.meta_gradient(episode)
            optimizer.step()
        if (right := share_right(learner, test)) > 0.95:
            break
    assert right > 0.95


def test_shuffled_labels_leave_it_at_chance_on_fresh_episodes(algo):
    """In training and after it, within four standard errors: labels come in by no other way."""

    def is_chance(right: float, answers: int) -> bool:
        return abs(right - 1 / WAYS) < 4 * math.sqrt(1 / WAYS * (1 - 1 / WAYS) / answers)

    learner = make(algo)
    optimizer = outer_optimizer(learner)
    in_training = []
    for seed in range(1, 9):
        optimizer.zero_grad()
        episodes = shuffled(training_episodes(learner, seed=seed))
        in_training.append(learner.meta_gradient(episodes)["accuracy"].item())
        optimizer.step()
    if learner.learns_from_queries:
        assert is_chance(fmean(in_training), 8 * episodes.query_y.numel())
    fresh = shuffled(random_episodes(32, WAYS, shots=2, queries=6, seed=9))
    assert is_chance(share_right(learner, fresh), fresh.query_y.numel())


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
    source = Path(inspect.getsourcefile(type(make(algo)))).read_text()
    for word in ("print(", "open(", "import time", ".cuda(", "torch.manual_seed", "import bench"):
        assert word not in source
