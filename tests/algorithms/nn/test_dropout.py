"""Masks belong to images: whatever the chunk, the layout, the order; and drop what they promise."""

import copy
import math

import pytest
import torch
from torch import Tensor

from algorithms.backbones.resnet12 import ResNet12
from algorithms.learner import TaskBatch
from algorithms.nn.dropout import HashedDropout, advance_step, drop_block, dropout, splitmix64
from algorithms.protonet import ProtoNet
from bench.check.tasks import random_episodes

IMAGES = torch.rand(3, 4, 1, 6, 5, generator=torch.Generator().manual_seed(0))
MAPS = torch.rand(3, 4, 7, 6, 5, generator=torch.Generator().manual_seed(1)).double() + 1


def dropped(x: Tensor, keys: Tensor, site: int = 0) -> list[Tensor]:
    """Both kinds, of maps [T, B, C, H, W]."""
    flat = x.flatten(0, 1)
    squares = drop_block(flat, keys, site, torch.tensor(0.4), 2)
    return [dropout(flat, keys, site, 0.4).view_as(x), squares.view_as(x)]


def test_random_words_are_the_published_ones():
    """The first of SplitMix64 from 1234567 (as in Rosetta Code): each adds the golden ratio first."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    states = [(1234567 + n * 0x9E3779B97F4A7C15) % 2**64 for n in range(1, 5)]
    words = splitmix64(torch.tensor([s - 2**64 if s >= 2**63 else s for s in states]))
    assert [word % 2**64 for word in words.tolist()] == expected


def test_a_mask_belongs_to_its_image_and_a_factor_to_its_task():
    noise = HashedDropout()
    keys = noise.keys(IMAGES)
    assert len(keys.unique()) == 12
    for kind, whole in enumerate(dropped(MAPS, keys)):
        one = slice(1, 2)  # a chunk of one task
        assert torch.equal(dropped(MAPS[one], noise.keys(IMAGES[one]))[kind], whole[one])
        order = torch.tensor([3, 1, 0, 2])
        other = dropped(MAPS[:, order], noise.keys(IMAGES[:, order]))[kind]
        torch.testing.assert_close(other, whole[:, order])


def test_weights_of_each_task_have_the_same_masks_in_their_own_layout():
    keys = HashedDropout().keys(IMAGES)
    per_task = MAPS.transpose(0, 1).flatten(1, 2)
    squares = drop_block(per_task, keys, 0, torch.tensor(0.4), 2)
    for found, expected in zip(
        (dropout(per_task, keys, 0, 0.4), squares), dropped(MAPS, keys), strict=True
    ):
        assert torch.equal(found, expected.transpose(0, 1).flatten(1, 2))


def test_masks_differ_by_image_site_step_and_the_least_bit_of_a_pixel():
    noise = HashedDropout()
    keys = noise.keys(IMAGES)
    first = dropped(MAPS, keys)[0] == 0
    changed = IMAGES.clone()
    changed[0, 0, 0, 0, 0] = torch.nextafter(changed[0, 0, 0, 0, 0], torch.tensor(2.0))
    assert (noise.keys(changed) != keys).tolist() == [[True] + 3 * [False], *2 * [4 * [False]]]
    advance_step(noise)
    for other in (dropped(MAPS, keys, 1)[0], dropped(MAPS, noise.keys(IMAGES))[0]):
        agree = (first == (other == 0)).float().mean()
        assert abs(agree - (0.4**2 + 0.6**2)) < 5 * math.sqrt(0.25 / MAPS.numel())


def test_golden_masks():
    """The very masks of this version: should they change, stored results are stale."""
    noise = HashedDropout()
    advance_step(noise)
    keys = noise.keys(torch.arange(8.0).view(1, 2, 1, 2, 2))
    assert keys.tolist() == [[-8261783959386168853, -7360450022789683269]]
    elements = dropout(torch.ones(2, 1, 2, 3), keys, 1, 0.5) > 0
    assert "".join(map(str, elements.int().flatten().tolist())) == "011111111010"
    squares = drop_block(torch.ones(2, 2, 3, 3), keys, 1, torch.tensor(0.5), 2) > 0
    assert (
        "".join(map(str, squares.int().flatten().tolist()))
        == "111111111111111111111100100111000000"
    )


def test_the_share_of_dropped_elements_is_the_rate_and_the_mean_stays():
    keys = HashedDropout().keys(
        torch.rand(2, 50, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    )
    maps = torch.ones(100, 8, 6, 6, dtype=torch.float64)
    found = dropout(maps, keys, 3, 0.1)
    count = maps.numel()
    assert abs((found == 0).double().mean() - 0.1) < 4 * math.sqrt(0.09 / count)
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.9])
    squares = drop_block(maps, keys, 3, torch.tensor(0.1), 2)
    # Corners are drawn alone: a place inside the map is dropped by any of four, one at an edge by fewer.
    chance = 0.1 / 4 * 36 / 25
    places = torch.tensor([1, 2, 2, 2, 2, 1])
    expected = 1 - (1 - chance) ** (places[:, None] * places)
    rates = (squares == 0).double().mean((0, 1))
    assert (rates - expected).abs().max() < 5 * math.sqrt(0.13 * 0.87 / 800)
    for task in squares.view(2, 50, 8, 6, 6):
        torch.testing.assert_close(task.mean().item(), 1.0)


def test_squares_are_whole_and_lie_inside_the_map():
    keys = HashedDropout().keys(IMAGES)
    maps = torch.ones(12, 7, 6, 5)
    holes = drop_block(maps, keys, 0, torch.tensor(0.2), 3) == 0
    assert 0.02 < holes.float().mean() < 0.5
    windows = holes.unfold(2, 3, 1).unfold(3, 3, 1).all(-1).all(-1)
    covered = torch.zeros_like(holes)
    for row in range(3):
        for column in range(3):
            covered[:, :, row : row + windows.shape[2], column : column + windows.shape[3]] |= (
                windows
            )
    assert torch.equal(covered, holes)


def test_a_map_smaller_than_the_square_goes_as_a_whole_and_one_without_rate_stays():
    keys = HashedDropout().keys(IMAGES)
    maps = torch.ones(12, 50, 2, 1)
    holes = drop_block(maps, keys, 0, torch.tensor(0.3), 5) == 0
    rate = 0.3 / 1 * 2 / (2 * 1)
    assert abs(holes.float().mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / maps.numel())
    assert torch.equal(drop_block(maps, keys, 0, torch.tensor(0.0), 5), maps)
    assert not drop_block(
        maps, keys, 0, torch.tensor(1.1), 5
    ).any()  # nothing left, and no number lost


def test_the_outer_gradient_does_not_depend_on_chunks_in_spite_of_dropping():
    torch.manual_seed(0)
    backbone = ResNet12((1, 16, 16), filters=2, drop_rate=0.3, drop_steps=1)
    learner = ProtoNet(backbone, 3).double()
    advance_step(learner)
    episodes = random_episodes(4, 3, shots=2, queries=2)
    gradients = []
    for size in (None, 3, 1):
        fresh = copy.deepcopy(learner)
        fresh.chunk_size = size
        fresh.meta_gradient(episodes)
        gradients.append([p.grad for p in fresh.parameters()])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-9, atol=1e-12)
    one = TaskBatch(*(part[:1] for part in episodes))
    with torch.no_grad():
        before = learner(*one[:3])
        assert torch.equal(learner(*one[:3]), before)
        advance_step(learner)
        assert not torch.allclose(learner(*one[:3]), before)
