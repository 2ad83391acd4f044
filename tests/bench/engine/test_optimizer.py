"""The recipe of the outer loop: keys that fit, step sizes by hand, and what reaches the learner."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from bench.config.schema import Train
from bench.core.errors import UserError
from bench.engine import optimizer
from bench.engine.evaluate import to_float
from bench.runs import cell as cells
from bench.runs import run
from tests.bench.small import ALGOS, PLAIN


def plan(**changes: object) -> Train:
    return Train(examples=72, meta_batch=2, ways=None, shots=None, queries=2, **PLAIN | changes)


STEPS = {"lr_schedule": "multistep", "milestones": [0.25, 0.5], "lr_factors": [0.1, 0.02]}


def test_step_sizes_by_hand():
    expected = {
        "constant": [1, 1, 1, 1, 1],
        "linear": [1, 0.75, 0.5, 0.25, 0],
        "cosine": [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0],
        "step": [1, 1, 0.5, 0.5, 0.25],
        "multistep": [1, 0.1, 0.02, 0.02, 0.02],
    }
    for schedule, factors in expected.items():
        made = plan(**STEPS | {"lr_schedule": schedule, "lr": 0.5, "step_size": 2})
        rates = [optimizer.lr_at(made, step, 4) for step in range(5)]
        assert rates == pytest.approx([0.5 * factor for factor in factors])


def test_words_for_the_protocol_card():
    assert optimizer.schedule(plan(**STEPS)) == "x 0.1 from 25.0%, x 0.02 from 50.0%"
    assert optimizer.augmentation(plan()) == "none"
    changed = plan(crop_padding=4, flip=True, jitter=0.4)
    assert optimizer.augmentation(changed) == "crop 4 + flip + jitter 0.4"


@pytest.mark.parametrize(("options", "told"), [
    (["train.lr_schedule=multistep"], "needs train.milestones"),
    (["train.milestones=[0.5]"], "as many train.lr_factors"),
    (["train.milestones=[0.5,0.2]", "train.lr_factors=[1.0,2.0]"], "rising shares"),
    (["train.momentum=0.9"], "adam has its own"),
    (["algo=reptile", "train.label_smoothing=0.1"], "a loss of its own"),
    (["train.split=train+val"], "validation.times must be 1"),
    (["algo=reptile", "recipe=adam"], "outer step of Reptile, .*: give train.optimizer=sgd, or"),
    (["algo=reptile", "recipe=sgd"], "^train.momentum=0.9 train.weight_decay=0.0005 would replace"),
    (["algo=reptile", "train.clip_value=0.1"], "give train.clip_value=null, or"),
    pytest.param(
        ["algo=learn2learn/reptile", "train.optimizer=adam"],
        "recipe=plain",
        marks=pytest.mark.skipif("learn2learn/protonet" not in ALGOS, reason="no learn2learn"),
    ),
])  # fmt: skip
def test_keys_that_do_not_fit_are_one_sentence(make, options, told):
    with pytest.raises(UserError, match=told) as caught:
        make(*options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "option",
    [
        "recipe=augmented",
        "train.lr=0.1",
        *(f"train.lr_schedule={s}" for s in ("constant", "cosine")),
    ],
)
def test_what_published_reptile_varies_is_possible(make, option):
    make("algo=reptile", option)


def test_reptile_moves_by_the_mean_step_of_its_tasks(make):
    """From theta to theta - lr * (theta - mean of theta_i), also after other steps."""
    loop = cells.build_components(make("algo=reptile", "train.lr=0.5")).loop
    loop.advance()
    before, copied = copy.deepcopy((loop.parameters, loop.learner))
    copied.zero_grad()
    copied.meta_gradient(to_float(loop.draw(loop.train.meta_batch)))
    loop.advance()
    lr = optimizer.lr_at(loop.train, 1, loop.steps)
    for old, new, like in zip(before, loop.parameters, copied.parameters(), strict=True):
        torch.testing.assert_close(new, old - lr * like.grad)


def test_smoothed_labels_reach_the_outer_loss(make):
    """With smoothing s, a share s of the label is spread over all classes."""
    smoothed = make("train.label_smoothing=0.3", "train.meta_batch=1", "train.ways=5")
    loop = cells.build_components(smoothed).loop
    episodes = to_float(loop.draw(0))
    with torch.no_grad():
        log_likelihoods = loop.learner(*episodes[:3]).log_softmax(-1)
    targets = 0.7 * F.one_hot(episodes.query_y, 5) + 0.3 / 5
    expected = -(targets * log_likelihoods).sum(-1).mean()
    torch.testing.assert_close(loop.learner.meta_gradient(episodes)["loss"], expected)


def test_each_element_of_the_outer_gradient_is_cut_to_the_bound(make):
    """By plain SGD, whose step is the rate times what is left of the gradient."""
    options = ("train.optimizer=sgd", "train.lr=1.0", "train.lr_schedule=constant")
    free = cells.build_components(make(*options)).loop
    bound = 1e-3
    cut = cells.build_components(make(*options, f"train.clip_value={bound}")).loop
    before = [p.detach().clone() for p in free.parameters]
    free.advance()
    cut.advance()
    steps = [[b - p for b, p in zip(before, each.parameters, strict=True)] for each in (free, cut)]
    wanted, found = (torch.cat([step.flatten() for step in each]) for each in steps)
    assert (wanted.abs() > 2 * bound).any() and (wanted.abs() < bound / 2).any()
    torch.testing.assert_close(found, wanted.clamp(-bound, bound), atol=1e-6, rtol=0)


def test_training_images_are_augmented_and_no_others(make):
    plain, changed = (
        cells.build_components(make(*options))
        for options in ([], ["train.crop_padding=3", "train.flip=true"])
    )
    assert not torch.equal(plain.loop.draw(0).query_x, changed.loop.draw(0).query_x)
    assert torch.equal(plain.loop.draw(0).query_y, changed.loop.draw(0).query_y)
    for one, other in (
        (plain.val_source, changed.val_source),
        (plain.test_source, changed.test_source),
    ):
        assert torch.equal(one.draw(0, 2).query_x, other.draw(0, 2).query_x)


def test_a_run_with_a_whole_recipe_says_so_in_its_record(make):
    cell = make(
        "train.split=train+val", "validation.times=1", "train.optimizer=sgd", "train.momentum=0.9",
        "train.weight_decay=0.0005", "train.lr_schedule=multistep", "train.milestones=[0.5]",
        "train.lr_factors=[0.1]", "train.jitter=0.4", "train.label_smoothing=0.1",
        "train.clip_value=10.0",
        "train.examples=240", "backbone=resnet12", "backbone.filters=1",
    )  # fmt: skip
    pool = cells.build_components(cell).loop.source.pool
    counts = [len(cell.dataset.splits[split].names) for split in ("train", "val")]
    assert len(pool.names) == sum(counts)
    assert torch.equal(pool.inputs[-1], cell.dataset.splits["val"].inputs[-1])
    record = run.run(cell)
    expected = {
        "train_split": "train+val", "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0005,
        "lr_schedule": "x 0.1 from 50.0%", "label_smoothing": 0.1, "augmentation": "jitter 0.4",
        "clip_value": 10.0,
    }  # fmt: skip
    assert {key: record[key] for key in expected} == expected
    assert record["selected_episode"] == record["train_episodes"]
