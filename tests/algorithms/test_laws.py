"""What every learner of conf/algo owes, on every backbone of conf/backbone: the laws of bench.check."""

import contextlib
import copy
import importlib.util
from functools import cache

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.learner import Learner
from bench.check import laws, making
from bench.check.elsewhere import elsewhere
from bench.config import groups, schema
from bench.config.plugins import CONF
from tests.choices import OF_CLASSES

BACKBONES = {
    "strided": ["backbone=conv4", "backbone.filters=8", "backbone.downsample=stride"],
    "pooled": ["backbone=conv4", "backbone.filters=8"],
    "mlp": ["backbone=mlp", "backbone.hidden=16"],
    "bytes": ["backbone=bytes", "backbone.length=64", "backbone.dim=8", "backbone.filters=16"],
}
ON_EACH = [
    *(name for name in BACKBONES if name != "bytes"),
    pytest.param("bytes", marks=pytest.mark.slow),
]
PEERS = [name for name in groups.names("algo") if name.startswith("learn2learn/")]
ALGOS = [
    name
    for name in groups.names("algo")
    if name not in PEERS or importlib.util.find_spec("learn2learn")
]
ALGOS = [name for name in ALGOS if name in (*OF_CLASSES, *PEERS)]
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
    with laws.default_dtype(torch.float64):
        yield


def make(algo: str, backbone: str = "strided", *options: str) -> Learner:
    """A float64 learner for 16x16 images, with running statistics away from their start."""
    return copy.deepcopy(made(algo, backbone, *options))


@cache
def made(algo: str, backbone: str, *options: str) -> Learner:
    learner = making.learner_of(cell(algo, backbone, *options))
    if algo.endswith("reptile"):
        learner.test_inner_steps, learner.inner_lr = 3, 0.01
    if learner.trains_classifier:
        learner.test_epochs, learner.head_lr = 5, 0.3
    return laws.warmed_up(learner)


@cache
def cell(algo: str, backbone: str = "strided", *options: str) -> schema.Config:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return schema.from_hydra(
            hydra.compose("config", [f"algo={algo}", *BACKBONES[backbone], *options])
        )


def nothing_to_say(speaks: bool) -> contextlib.AbstractContextManager[object]:
    """A law that does not speak of a learner shall say so."""
    return contextlib.nullcontext() if speaks else pytest.raises(laws.NotApplicableError)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "algo" not in metafunc.fixturenames:
        return
    left_out = () if metafunc.function.__name__ in OF_GRADIENTS else SAME_CODE
    metafunc.parametrize("algo", [name for name in ALGOS if name not in left_out])


@pytest.mark.parametrize("backbone", ON_EACH)
def test_forward_is_adapt_and_predict(algo, backbone):
    laws.forward_is_adapt_and_predict(make(algo, backbone))


def test_predictions_and_the_outer_gradient_are_numbers(algo):
    laws.predictions_are_numbers(make(algo))


def test_a_learner_of_any_ways_takes_others_than_it_is_made_for(algo):
    learner = make(algo)
    with nothing_to_say(learner.accepts_any_ways):
        laws.takes_other_ways(learner)


@pytest.mark.parametrize("backbone", ON_EACH)
def test_tasks_of_an_evaluation_do_not_touch_each_other(algo, backbone):
    laws.tasks_are_independent(make(algo, backbone))


def test_a_prediction_depends_on_other_queries_only_where_the_learner_says_so(algo):
    laws.transductive_flag_is_correct(make(algo))
    if algo not in PEERS:
        assert not make(algo).transductive, "the fair default"


@pytest.mark.parametrize("backbone", ON_EACH)
def test_a_lone_query_is_the_only_one_of_all_queries(algo, backbone):
    learner = make(algo, backbone)
    with nothing_to_say("query" in learner.norm_statistics_choices):
        laws.a_lone_query_is_all_queries(learner)


@pytest.mark.parametrize("backbone", ON_EACH)
def test_a_query_with_the_support_set_is_normalised_as_one_more_of_its_images(algo, backbone):
    """By the images of the support set and itself, or where it only looks on, by theirs alone."""
    learner = make(algo, backbone)
    with nothing_to_say("support" in learner.norm_statistics_choices):
        laws.a_query_joins_the_support_set(learner)


def test_the_place_of_a_query_tells_nothing_of_its_class(algo):
    laws.places_of_queries_tell_nothing(make(algo))


def test_evaluation_changes_nothing(algo):
    laws.evaluation_changes_nothing(make(algo))


@pytest.mark.parametrize("backbone", ON_EACH)
def test_the_outer_gradient_reaches_every_meta_parameter(algo, backbone):
    laws.the_gradient_reaches_all(make(algo, backbone))


def test_the_outer_gradient_adds_up_and_does_not_depend_on_chunks(algo):
    laws.the_gradient_adds_up(make(algo))


def test_naming_the_classes_in_another_order_renames_the_answers(algo):
    # The peer keeps the second moments of its head where we cannot put them in another order.
    options = ["algo.inner_optimizer=sgd"] if algo == "learn2learn/reptile" else []
    laws.names_of_classes_do_not_matter(make(algo, "strided", *options))


def test_the_order_of_tasks_and_of_the_images_of_a_class_does_not_matter(algo):
    # The peer's Adam goes from task to task with its moments, which so depend on their order.
    options = ["algo.inner_optimizer=sgd"] if algo == "learn2learn/reptile" else []
    laws.order_does_not_matter(make(algo, "strided", *options))


def test_adaptation_and_the_outer_gradient_leave_the_meta_parameters_as_they_are(algo):
    laws.meta_parameters_stay(make(algo))


@pytest.mark.parametrize("law", [
    laws.keeps_float32, laws.keeps_float64, pytest.param(laws.keeps_cuda, marks=NEEDS_CUDA),
], ids=lambda law: law.__name__)  # fmt: skip
def test_everything_keeps_the_dtype_and_the_device_of_the_learner(algo, law):
    law(make(algo))


@NEEDS_CUDA
def test_a_step_that_a_gpu_may_record_waits_for_nothing(algo):
    learner = make(algo)
    with nothing_to_say(learner.supports_cuda_graph):
        laws.a_step_can_be_recorded(learner)


def test_the_outer_loop_can_learn_one_episode_by_heart(algo):
    """Its labels are shuffled, so that adaptation alone gets it wrong."""
    learner = make(algo)
    with nothing_to_say(learner.trainable):
        laws.overfits_one_episode(learner)


def test_shuffled_labels_leave_it_at_chance_on_fresh_episodes(algo):
    laws.shuffled_labels_leave_it_at_chance(make(algo))


def test_two_copies_do_the_same(algo):
    laws.two_copies_do_the_same(make(algo))


@pytest.mark.parametrize("backbone", ON_EACH)
def test_from_a_checkpoint_it_goes_on_as_if_it_had_never_stopped(algo, backbone):
    making.goes_on_from_a_checkpoint(cell(algo, backbone))


def initial_weights(cells: list[schema.Config]) -> list[dict[str, str]]:
    return [making.initial_weights(each) for each in cells]


@pytest.mark.slow
def test_in_another_process_they_have_the_same_weights():
    """The law for all of them at once, since another process takes seconds to start."""
    cells = [cell(algo) for algo in ALGOS]
    assert elsewhere(initial_weights, cells) == initial_weights(cells)


def test_a_learner_says_no_politely(algo):
    learner = make(algo)
    with nothing_to_say(learner.trainable):
        laws.rejects_unsupported_settings(learner)


def test_learners_own_no_files_clocks_devices_or_seeds(algo):
    laws.has_no_side_effects(make(algo))
