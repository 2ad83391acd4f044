import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from bench.core import serialization
from bench.core.errors import UserError
from bench.datasets.io import cache
from bench.datasets.io.cache import cached
from bench.tasks.pool import Dataset, Pool


class Maker:
    """Makes the same small data set each time, and counts."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> Dataset:
        self.made += 1
        images = torch.arange(64, dtype=torch.uint8).view(4, 1, 4, 4)
        return Dataset.of("toy", {"train": Pool.of({"a": images[:2], "b": images[2:]})})


@pytest.fixture
def make() -> Maker:
    return Maker()


def the_file(folder: Path) -> Path:
    (file,) = folder.rglob("*.pt")
    return file


def test_made_once_and_the_same_afterwards(tmp_path: Path, make: Maker) -> None:
    first = cached(tmp_path, "toy", b"1", make)
    second = cached(tmp_path, "toy", b"1", make)
    assert make.made == 1
    assert (second.name, second.digest) == (first.name, first.digest)
    assert second.splits["train"].names == ("a", "b")
    assert torch.equal(second.splits["train"].inputs, first.splits["train"].inputs)
    assert torch.equal(second.splits["train"].offsets, first.splits["train"].offsets)


def test_another_recipe_is_another_file(tmp_path: Path, make: Maker) -> None:
    cached(tmp_path, "toy", b"1", make)
    cached(tmp_path, "toy", b"2", make)
    assert make.made == 2
    assert len(list(tmp_path.rglob("*.pt"))) == 2


def flip(content: bytes) -> bytes:
    at = content.index(bytes(range(64)))  # the pixels
    return content[: at + 7] + b"\xff" + content[at + 8 :]


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda content: content[: len(content) // 2],
        lambda _: b"",
        lambda _: b"not a zip",
    ],
    ids=["flipped", "truncated", "empty", "other"],
)
def test_a_damaged_file_is_noticed_and_made_anew(
    tmp_path: Path,
    make: Maker,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = cached(tmp_path, "toy", b"1", make)
    file = the_file(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    again = cached(tmp_path, "toy", b"1", make)
    assert "damaged" in caplog.text
    assert make.made == 2
    assert torch.equal(again.splits["train"].inputs, good.splits["train"].inputs)
    cached(tmp_path, "toy", b"1", make)
    assert make.made == 2


def test_a_file_of_other_images_than_it_says_is_made_anew(tmp_path: Path, make: Maker) -> None:
    """Whole, and by its digest the right one: only its images tell."""
    good = cached(tmp_path, "toy", b"1", make)
    pool = good.splits["train"]
    splits = {"train": (pool.inputs.flip(0), pool.offsets, pool.names)}
    the_file(tmp_path).write_bytes(serialization.to_bytes((good.name, good.digest, splits)))
    again = cached(tmp_path, "toy", b"1", make)
    assert make.made == 2
    assert torch.equal(again.splits["train"].inputs, pool.inputs)


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, make: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder can be made beneath this")
    for runs in (1, 2):
        made = cached(tmp_path / "file" / "cache", "toy", b"1", make)
        assert make.made == runs
        assert made.splits["train"].names == ("a", "b")
    assert "every run prepares it anew" in caplog.text


def test_a_full_disk_is_a_warning(
    tmp_path: Path,
    make: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "atomic_write", full)
    assert cached(tmp_path, "toy", b"1", make).name == "toy"
    assert "No space left" in caplog.text


def test_waiting_for_the_lock_ends(
    tmp_path: Path, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(tmp_path, "toy", b"1", make)
    file = the_file(tmp_path)
    file.unlink()
    monkeypatch.setattr(cache, "LOCK_SECONDS", 0.1)
    with (
        FileLock(file.with_suffix(".lock")),
        pytest.raises(UserError, match="Another process"),
    ):
        cached(tmp_path, "toy", b"1", make)
    assert make.made == 1


def test_those_who_come_at_the_same_time_wait_for_one(tmp_path: Path, make: Maker) -> None:
    started, go = threading.Event(), threading.Event()
    found: list[Dataset] = []

    def slow() -> Dataset:
        started.set()
        assert go.wait(600)
        return make()

    def ask() -> None:
        found.append(cached(tmp_path, "toy", b"1", slow))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert started.wait(600)
    go.set()
    for thread in threads:
        thread.join(600)
    assert make.made == 1
    assert len(found) == 3


def test_a_failed_preparation_leaves_nothing_behind(tmp_path: Path, make: Maker) -> None:
    def fail() -> Dataset:
        raise UserError("no archive")

    with pytest.raises(UserError, match="no archive"):
        cached(tmp_path, "toy", b"1", fail)
    assert not list(tmp_path.rglob("*.pt"))
    assert cached(tmp_path, "toy", b"1", make).name == "toy"
