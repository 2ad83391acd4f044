"""Texts as bytes of a pool."""

import pytest
import torch

from bench.tasks.pool import Dataset, Pool
from bench.tasks.texts import normalized, to_bytes, to_text

TEXTS = ["", "a b", "Zürich 🚋", "çok güzel"]


def test_texts_survive_as_bytes():
    rows = to_bytes(TEXTS)
    assert rows.dtype == torch.uint8
    assert rows.shape == (4, max(len(text.encode()) for text in TEXTS))
    assert [to_text(row) for row in rows] == TEXTS
    assert to_text(to_bytes(["a\0b"])[0]) == "ab"
    assert to_text(to_bytes(["🚋"])[0, :3]) == ""
    assert to_bytes([]).shape == (0, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [("What's up?", "what s up"), ("ﬁne  day", "FINE day"), ("Straße", "STRASSE"), ("…", "")],
)
def test_texts_count_as_the_same(one, other):
    assert normalized(one) == normalized(other)


def test_marks_and_letters_count():
    assert len({normalized(text) for text in ("कि", "क", "кит", "кот", "1", "2")}) == 6


def test_bytes_are_texts_and_no_images():
    pools = {
        split: Pool.of({split: to_bytes(["one", "two"])}) for split in ("train", "val", "test")
    }
    dataset = Dataset.of("texts", pools)
    assert dataset.has_texts and not dataset.has_images
