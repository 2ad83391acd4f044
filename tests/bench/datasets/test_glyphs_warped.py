import unicodedata
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import ft2font
from numpy.typing import NDArray
from torch import Tensor

from algorithms.learner import Setting
from bench.datasets.images import glyphs, glyphs_warped
from bench.datasets.io.cache import DataDirs
from bench.engine.evaluate import to_float
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Dataset
from tools.campaigns.coverage import GROUPS

SIDE = glyphs_warped.FINE * glyphs.SIDE
COUNT = 6 + 2 * glyphs_warped.NET**2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> DataDirs:
    folder = tmp_path_factory.mktemp("glyphs_warped")
    return DataDirs(folder, folder)


@pytest.fixture(scope="module")
def drawings() -> list[bytes]:
    """The images that `made` is warped from, once it is there."""
    return []


@pytest.fixture(scope="module")
def made(folders: DataDirs, drawings: list[bytes]) -> Dataset:
    warp = glyphs_warped.warp

    def noting(images: NDArray[np.uint8], change: NDArray[np.float64]) -> NDArray[np.uint8]:
        drawings.extend(image.tobytes() for image in images)
        return warp(images, change)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs_warped, "warp", noting)
        return glyphs_warped.prepare(folders)


def bar() -> np.ndarray:
    """A black image with an upright bar in its middle, [1, 56, 56]."""
    image = np.zeros((1, SIDE, SIDE), np.uint8)
    image[:, 12:44, 26:30] = 255
    return image


def changed(**numbers: float) -> np.ndarray:
    """The bar after changes by their names, of which the others are none; [28, 28]."""
    names = ("turn", "wide", "high", "slant", "right", "down")
    low, top = glyphs_warped.SCALES
    change = np.zeros((1, COUNT))
    change[:, 1:3] = 2 * (1 - low) / (top - low) - 1  # as wide and as high as it was
    for name, number in numbers.items():
        change[:, names.index(name)] = number
    return glyphs_warped.warp(bar(), change)[0]


def test_drawing_again_gives_the_same(made: Dataset, tmp_path: Path) -> None:
    again = glyphs_warped.prepare(DataDirs(tmp_path, tmp_path))
    assert again.digest == made.digest


def test_groups_are_letters_with_their_cases(made: Dataset) -> None:
    pool = made.splits["test"]
    assert sorted(Counter(pool.groups).values()) == sorted(GROUPS["glyphs_warped"])
    groups = dict(zip(pool.names, pool.groups, strict=True))
    letters = ("U+0416 CYRILLIC CAPITAL LETTER ZHE", "U+0436 CYRILLIC SMALL LETTER ZHE")
    assert [groups[letter] for letter in letters] == ["ж", "ж"]


def test_ink_is_bright_and_said_to_be(made: Dataset) -> None:
    assert made.inverted and made.splits["train"].inputs.float().mean() < 64


def test_the_pin_is_that_of_the_versions_it_was_made_with(made: Dataset) -> None:
    versions = (matplotlib.__version__, ft2font.__freetype_version__)
    if versions != ("3.11.2", "2.14.3"):
        pytest.skip("another matplotlib may draw other pixels")
    assert made.digest == glyphs_warped.DIGEST


def test_no_drawing_occurs_twice_before_it_is_warped(made: Dataset, drawings: list[bytes]) -> None:
    """The leak guard sees warped images only, of which two differ even where their drawings do not."""
    images, different = len(drawings), len(set(drawings))
    assert images == sum(len(pool.inputs) for pool in made.splits.values())
    assert different == images


def test_classes_are_letters_without_accents_in_the_splits_of_glyphs(made: Dataset) -> None:
    assert {split: len(pool.names) for split, pool in made.splits.items()} == {
        "train": 358,
        "val": 69,
        "test": 114,
    }
    for split, pool in made.splits.items():
        assert pool.inputs.shape[1:] == (1, 28, 28)
        assert pool.sizes.min() >= glyphs.MIN_IMAGES and pool.sizes.max() <= len(glyphs.FACES)
        for name in pool.names:
            letter = chr(int(name.split()[0].removeprefix("U+"), 16))
            assert unicodedata.normalize("NFD", letter) == letter
            assert glyphs.split_of(letter.upper().casefold()) == split


def test_without_changes_a_letter_is_as_it_was() -> None:
    expected = bar().reshape(1, 28, 2, 28, 2).mean((2, 4))
    assert (changed() == expected).all()


def test_each_change_does_what_it_says() -> None:
    plain = changed()
    shift = round(glyphs_warped.SHIFT)
    assert (changed(right=1) == np.roll(plain, shift, 1)).all()
    assert (changed(down=1) == np.roll(plain, shift, 0)).all()
    turned = np.argwhere(changed(turn=1) > 127) - 13.5
    lean = np.polyfit(turned[:, 0], turned[:, 1], 1)[0]
    assert np.degrees(np.arctan(lean)) == pytest.approx(-15, abs=1)  # clockwise
    slanted = np.argwhere(changed(slant=1) > 127) - 13.5
    assert np.polyfit(slanted[:, 0], slanted[:, 1], 1)[0] == pytest.approx(-0.2, abs=0.02)
    ink = plain.sum(dtype=int)
    assert changed(wide=-1).sum(dtype=int) == pytest.approx(0.8 * ink, rel=0.02)
    assert changed(high=1).sum(dtype=int) == pytest.approx(1.1 * ink, rel=0.02)


def test_changes_are_of_all_sizes_and_depend_on_letter_and_typeface_alone() -> None:
    some = glyphs_warped.changes("ж", np.arange(16))
    assert some.shape == (16, COUNT)
    assert (glyphs_warped.changes("ж", np.array([3, 11])) == some[[3, 11]]).all()
    assert not (glyphs_warped.changes("Ж", np.arange(16)) == some).any()
    many = np.concatenate([glyphs_warped.changes(chr(code), np.arange(16)) for code in range(99)])
    assert abs(many.mean(0)).max() < 0.06 and many.min() < -0.999 and many.max() > 0.999
    assert many.std(0) == pytest.approx(3**-0.5, abs=0.03)


def blurred(images: Tensor) -> Tensor:
    """Images [..., 1, 28, 28] three times averaged over 3 x 3 pixels, of unit length."""
    flat = images.flatten(0, -4)
    for _ in range(3):
        flat = F.avg_pool2d(flat, 3, 1, 1)
    return F.normalize(flat.flatten(1)).view(*images.shape[:-3], -1)


def test_pixels_alone_do_not_solve_it(made: Dataset) -> None:
    """The nearest mean of the pixels, also of blurred ones, is well above chance and below 60 %."""
    sampler = EpisodeSampler(made.splits["test"], Setting(5, 1, 5), ("pixels",))
    episodes = to_float(sampler.draw(0, 200))
    for features in (lambda images: images.flatten(-3), blurred):
        means = features(episodes.support_x).mean(2)
        nearest = torch.cdist(features(episodes.query_x), means).argmin(-1)
        right = (nearest == episodes.query_y).double().mean()
        assert 0.3 < right < 0.6
