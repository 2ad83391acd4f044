import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from bench.tasks.leaks import check, check_once
from bench.tasks.pool import Dataset, Pool
from bench.tasks.texts import pools

Splits = dict[str, Pool]


def clean() -> Splits:
    """Three splits of two classes with three images each, all distinct."""
    images = torch.arange(18, dtype=torch.uint8).view(18, 1, 1, 1).expand(-1, 1, 2, 2).clone()
    three = iter(images.split(3))
    return {
        split: Pool.of({f"{split}/{name}": next(three) for name in "ab"})
        for split in ("train", "val", "test")
    }


def test_clean_splits_pass(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    check(clean())
    assert not caplog.messages


def same_class(splits: Splits) -> None:
    splits["test"] = replace(splits["test"], names=("test/a", "train/b"))


def same_image(splits: Splits) -> None:
    splits["val"].inputs[4] = splits["train"].inputs[0]


def same_name(splits: Splits) -> None:
    splits["val"] = replace(splits["val"], names=("val/a", "val/a"))


def lone_image(splits: Splits) -> None:
    splits["val"] = replace(splits["val"], offsets=torch.tensor([0, 1, 6]))


def backward_offsets(splits: Splits) -> None:
    splits["val"] = Pool(
        splits["val"].inputs, torch.tensor([0, 7, 3, 6]), ("val/a", "val/b", "val/c")
    )


def short_offsets(splits: Splits) -> None:
    splits["val"] = replace(splits["val"], offsets=torch.tensor([0, 3, 5]))


def missing_name(splits: Splits) -> None:
    splits["val"] = replace(splits["val"], names=("val/a",))


def float_images(splits: Splits) -> None:
    splits["val"] = replace(splits["val"], inputs=splits["val"].inputs.float())


def no_channel(splits: Splits) -> None:
    splits["val"] = replace(splits["val"], inputs=splits["val"].inputs[:, 0])


def a_nan(splits: Splits) -> None:
    for split, pool in splits.items():
        splits[split] = replace(pool, inputs=pool.inputs.float())
    splits["val"].inputs[3, 0, 1, 1] = torch.nan


def token_ids(splits: Splits) -> None:
    splits["train"] = replace(splits["train"], inputs=splits["train"].inputs.long())


def short_targets(splits: Splits) -> None:
    splits["val"] = replace(splits["val"], targets=torch.zeros(2, 1))


def no_val(splits: Splits) -> None:
    del splits["val"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (same_class, "train and test share 1 classes, such as train/b"),
        (
            same_image,
            r"1 examples .* expected 0; they are train/a no. 0 \(train\) = val/b no. 1 \(val\)$",
        ),
        (same_name, "val: two classes have the same name"),
        (lone_image, "val: class val/a has fewer than 2 examples"),
        (backward_offsets, "val: class val/b has fewer than 2 examples"),
        (short_offsets, "val: offsets do not fit"),
        (missing_name, "val: offsets do not fit"),
        (a_nan, "val: inputs must be uint8 or finite floats"),
        (token_ids, "train: inputs must be uint8 or finite floats"),
        (short_targets, "val: targets must be finite floats"),
        (float_images, r"train has inputs of torch.uint8 \[.*\], and val of torch.float32"),
        (no_channel, "train has inputs of torch.uint8 .*, and val of torch.uint8"),
        (no_val, "must be train, val and test"),
    ],
)
def test_each_leak_is_found(spoil: Callable[[Splits], None], message: str) -> None:
    splits = clean()
    spoil(splits)
    with pytest.raises(ValueError, match=message):
        check(splits)


def test_a_known_number_of_shared_images_is_accepted_and_no_other() -> None:
    splits = clean()
    same_image(splits)
    check(splits, expected_duplicates=1)
    with pytest.raises(ValueError, match="0 examples are in more than one split, expected 1"):
        check(clean(), expected_duplicates=1)


def test_images_that_differ_in_one_pixel_are_different() -> None:
    splits = clean()
    for number, (split, pool) in enumerate(splits.items()):
        images = torch.zeros(6, 3, 2, 2, dtype=torch.uint8)
        images[:, 2, 1, 1] = torch.arange(6) + 6 * number
        splits[split] = replace(pool, inputs=images)
    check(splits)


def test_shared_images_of_a_data_set_without_a_known_number_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    splits = clean()
    splits["val"].inputs[:] = splits["train"].inputs
    check(splits, expected_duplicates=None)
    assert "none is left out; they are train/a no. 0 (train) = val/a no. 0 (val); train/a" in (
        caplog.text
    )
    assert caplog.text.endswith("(val); and 3 more\n")


def test_a_data_set_says_how_many_images_it_is_known_to_share() -> None:
    splits = clean()
    same_image(splits)
    made = Dataset.of("toy", splits)
    with pytest.raises(ValueError, match="1 examples are in more than one split, expected 0"):
        check_once(made)
    check_once(replace(made, expected_duplicates=1))


def test_repeats_within_a_class_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    splits = clean()
    splits["test"].inputs[1] = splits["test"].inputs[0]
    check(splits)
    assert caplog.messages == ["test: 1 examples repeat one of their own class"]


def test_texts_count_as_the_same_by_their_words() -> None:
    texts = {"train": ["a b", "c", "…"], "val": ["d", "e", "!"], "test": ["A, b!", "f", "?"]}
    splits = pools({split: {split: of} for split, of in texts.items()})
    check(splits, 1)
    with pytest.raises(ValueError, match="1 examples are in more than one split"):
        check(splits)


def test_texts_are_compared_to_their_ends() -> None:
    start = "the same beginning, and far more of it than any encoder reads " * 20
    check(pools({split: {split: [start + split, split]} for split in ("train", "val", "test")}))
