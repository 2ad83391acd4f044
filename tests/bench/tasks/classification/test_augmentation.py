"""Augmentation of images: against plain loops, and each image in its own way."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from algorithms.learner import Setting, TaskBatch
from bench.tasks.classification.augmentation import (
    ORDERS,
    Augmentation,
    color_jitter,
    crop_and_flip,
)
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (40, 3, 12, 10), dtype=torch.uint8, generator=GENERATOR)
POOL = Pool.of({name: IMAGES[8 * i : 8 * i + 8] for i, name in enumerate("abcde")})
SAMPLER = EpisodeSampler(POOL, Setting(3, 2, 2), ("t",))
ALL = Augmentation.of("axes", crop_padding=2, flip=True, jitter=0.4)


def test_what_is_kept_of_a_padded_image_by_a_plain_loop():
    corners = torch.randint(0, 7, (40, 2), generator=GENERATOR)
    mirrored = torch.rand(40, generator=GENERATOR) < 0.5
    for image, corner, mirror, found in zip(
        IMAGES, corners, mirrored, crop_and_flip(IMAGES, corners, mirrored, 3), strict=True
    ):
        padded = np.zeros((3, 18, 16), np.uint8)
        padded[:, 3:15, 3:13] = image
        row, column = corner.tolist()
        kept = padded[:, row : row + 12, column : column + 10]
        assert np.array_equal(found, kept[:, :, ::-1] if mirror else kept)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_each_change_of_colours_is_that_of_pillow(kind):
    """On colours in the middle, where nothing is cut off; Pillow rounds down, and its luminance too."""
    images = 90 + IMAGES // 4
    factor = torch.linspace(0.7, 1.3, 40)
    factors = torch.ones(40, 3)
    factors[:, kind] = factor
    enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[kind]
    for i, found in enumerate(color_jitter(images, factors, torch.zeros(40, dtype=torch.int64))):
        picture = Image.fromarray(images[i].movedim(0, -1).numpy())
        expected = np.asarray(enhancer(picture).enhance(factor[i].item())).astype(int)
        assert np.abs(found.movedim(0, -1).numpy() - expected).max() <= 1


@pytest.mark.parametrize("order", range(6))
def test_changes_of_colours_one_after_the_other(order):
    factors = torch.tensor([1.2, 0.8, 1.3]).expand(40, 3)
    x = (90 + IMAGES // 4).double()
    for kind in ORDERS[order]:
        grey = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
        base = (torch.zeros(1), grey.mean((1, 2, 3), keepdim=True), grey)[kind]
        x = base + factors[0, kind] * (x - base)
    found = color_jitter(90 + IMAGES // 4, factors, torch.full((40,), order))
    assert (found - x.clamp(0, 255)).abs().max() <= 0.501


def test_colours_are_held_to_their_range_and_grey_stays_grey():
    bright = color_jitter(
        IMAGES, torch.tensor([1.4, 1.0, 1.0]).expand(40, 3), torch.zeros(40).long()
    )
    assert torch.equal(bright, (IMAGES * 1.4).round().clamp(max=255).to(torch.uint8))
    factors = torch.tensor([1.0, 0.5, 1.4]).expand(40, 3)
    grey = IMAGES[:, :1]
    as_colours = color_jitter(grey.expand(-1, 3, -1, -1), factors, torch.zeros(40).long())
    alone = color_jitter(grey, factors, torch.zeros(40).long())
    assert torch.equal(as_colours, alone.expand(-1, 3, -1, -1))
    less = color_jitter(IMAGES, torch.tensor([1.0, 1.0, 0.5]).expand(40, 3), torch.zeros(40).long())

    def saturation(pixel):
        return colorsys.rgb_to_hsv(*(pixel / 255).tolist())[1]

    pairs = zip(IMAGES[0].flatten(1).T, less[0].flatten(1).T, strict=True)
    assert all(saturation(after) < saturation(before) for before, after in pairs)


def test_an_image_is_changed_by_its_episode_number_alone():
    together = ALL(SAMPLER.draw(3, 4), 3)
    for number in range(3, 7):
        alone = ALL(SAMPLER.draw(number, 1), number)
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_of_them[number - 3])
    assert not torch.equal(ALL(SAMPLER.draw(3, 1), 4).query_x, together.query_x[:1])
    other = Augmentation.of("other axes", 2, True, 0.4)
    assert not torch.equal(other(SAMPLER.draw(3, 1), 3).query_x, together.query_x[:1])


def test_labels_shapes_and_types_stay_and_nothing_changes_unless_wanted():
    episodes = SAMPLER.draw(0, 2)
    changed = ALL(episodes, 0)
    for before, after in zip(episodes, changed, strict=True):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
    assert torch.equal(changed.support_y, episodes.support_y)
    assert torch.equal(changed.query_y, episodes.query_y)
    assert Augmentation.of("axes", 0, False, 0.0)(episodes, 0) is episodes


def test_shifts_flips_and_factors_are_uniform():
    """Of a ramp of brightness along each axis, what was done can be read off."""
    ramp = torch.zeros(1, 3, 12, 10, dtype=torch.uint8)
    ramp[0, 0] = torch.arange(1, 11)
    ramp[0, 1] = torch.arange(1, 13)[:, None]
    images = ramp.expand(2000, -1, -1, -1)
    nothing = torch.zeros(1)
    episodes = TaskBatch(images[None, :, None], nothing, images[None, :0], nothing, nothing)
    found = Augmentation.of("axes", 1, True, 0.0)(episodes, 0).support_x[0, :, 0]
    columns = found[:, 0, 6, [4, 5]].long()
    flipped = columns[:, 1] < columns[:, 0]
    assert abs(flipped.float().mean() - 0.5) < 4 * 0.5 / 2000**0.5
    for kind in (flipped, ~flipped):
        places, counts = columns[kind][:, 0].unique(return_counts=True)
        assert len(places) == 3
        shares = counts / counts.sum()
        assert (shares - 1 / 3).abs().max() < 5 * (2 / 9 / 1000) ** 0.5
    rows = found[:, 1, 6, 5].long() - 7
    assert sorted(rows.unique().tolist()) == [-1, 0, 1]

    flat = torch.full((1, 3000, 1, 1, 2, 2), 100, dtype=torch.uint8)
    episodes = episodes._replace(support_x=flat, query_x=flat[:, :0, 0])
    bright = (
        Augmentation.of("axes", 0, False, 0.4)(episodes, 0).support_x.flatten(1)[0, ::4].float()
    )
    assert 60 <= bright.min() < 62 and 138 < bright.max() <= 140
    assert abs(bright.mean() - 100) < 4 * 23.1 / 3000**0.5
    assert abs(bright.std() - 80 / 12**0.5) < 1
