"""miniImageNet from its three pickles, made small; the facts that are checked, and what is said."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.core.errors import UserError
from bench.datasets.images import miniimagenet
from bench.datasets.images.miniimagenet import prepare
from bench.datasets.io.cache import DataDirs
from bench.tasks import leaks
from tests.bench.datasets.fakes import MiniImagenet, Server, python, python2, python3

NOWHERE = "http://127.0.0.1:9"
TRAIN = "mini-imagenet-cache-train.pkl"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> MiniImagenet:
    monkeypatch.setattr(miniimagenet, "CLASSES", MiniImagenet.CLASSES)
    monkeypatch.setattr(miniimagenet, "IMAGES", MiniImagenet.IMAGES)
    return MiniImagenet()


def written(tmp_path: Path, files: dict[str, bytes]) -> DataDirs:
    folder = tmp_path / "data" / "miniimagenet"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return DataDirs(tmp_path / "data", tmp_path / "cache")


def test_the_real_files_have_these_classes_and_images() -> None:
    assert miniimagenet.CLASSES == {"train": 64, "val": 16, "test": 20}
    assert miniimagenet.IMAGES == 600


@pytest.mark.parametrize("write", [python2, python3, python(3), python(4)])
def test_images_come_by_class_however_the_files_are_written(
    made: MiniImagenet, tmp_path: Path, write: Callable[[object], bytes]
) -> None:
    folders = written(tmp_path, made.files(write))
    dataset = prepare(folders, url=NOWHERE)
    for split, classes in made.images.items():
        pool = dataset.splits[split]
        assert pool.names == tuple(classes)
        assert pool.offsets.tolist() == [4 * c for c in range(len(classes) + 1)]
        assert torch.equal(pool.inputs, torch.cat(list(classes.values())))
    for path in (tmp_path / "data" / "miniimagenet").iterdir():
        path.unlink()
    assert prepare(folders, url=NOWHERE).digest == dataset.digest, "prepared once"


def test_files_that_are_not_there_are_downloaded_and_kept(
    made: MiniImagenet, tmp_path: Path, server: Server
) -> None:
    files = made.files()
    server.bodies = {f"/files/{name}": content for name, content in files.items()}
    there = {name: content for name, content in files.items() if name != TRAIN}
    folders = written(tmp_path, there)
    prepare(folders, url=f"{server.url}/files/")
    assert server.asked == [f"/files/{TRAIN}"]
    assert (tmp_path / "cache" / "miniimagenet" / TRAIN).read_bytes() == files[TRAIN]


def fewer_classes(content: dict) -> None:
    content["class_dict"].popitem()


def fewer_images(content: dict) -> None:
    content["class_dict"]["n1140"].pop()


def an_image_twice(content: dict) -> None:
    content["class_dict"]["n1140"][0] = content["class_dict"]["n1140"][1]


def no_numbers(content: dict) -> None:
    content["class_dict"]["n1140"] = ["1", "2", "3", "4"]


def larger(content: dict) -> None:
    content["image_data"] = np.zeros((12, 96, 96, 3), np.uint8)


def of_floats(content: dict) -> None:
    content["image_data"] = np.zeros((12, 84, 84, 3), np.float32)


def of_numbers(content: dict) -> None:
    content["image_data"] = np.zeros((12, 84, 84, 3), np.int32)


def without_images(content: dict) -> None:
    del content["image_data"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (fewer_classes, "its class_dict does not have 3 classes"),
        (fewer_images, "it has 3 images of n1140 instead of 4"),
        (an_image_twice, "its class_dict does not give each image to one class"),
        (no_numbers, "the images of n1140 are not a list of numbers"),
        (larger, "its image_data are not 12 images of 84 x 84 x 3 bytes"),
        (of_floats, "it has something else than arrays of whole numbers"),
        (of_numbers, "its image_data are not 12 images of 84 x 84 x 3 bytes"),
        (without_images, "its image_data are not 12 images of 84 x 84 x 3 bytes"),
    ],
)
def test_another_file_is_refused_in_a_sentence(
    made: MiniImagenet, tmp_path: Path, spoil: Callable[[dict], None], reason: str
) -> None:
    spoil(made.contents["train"])
    refused(written(tmp_path, made.files()), reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot mmap an empty file"),
        (b"<!DOCTYPE html>log in", "it is a web page"),
        (b"\x80\x04]\x94.", "its image_data are not"),
        (b"\x80\x04cos\nsystem\n.", "it asks for os.system, which is not data"),
        (b"\x80\x04" + b"]" * 7000, "it has more than 2024 instructions"),
        (MiniImagenet().files()[TRAIN][:-9], "it ends too early"),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(
    made: MiniImagenet, tmp_path: Path, content: bytes, reason: str
) -> None:
    refused(written(tmp_path, made.files() | {TRAIN: content}), reason)


def refused(folders: DataDirs, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        prepare(folders, url=NOWHERE)
    told = str(caught.value)
    path = folders.archives / "miniimagenet" / TRAIN
    assert told.startswith(f"{path} is damaged or not the train split of miniImageNet ({reason}")
    assert told.endswith("put the official file there, or delete it to have it downloaded")
    assert "\n" not in told
    assert not list(folders.cache.rglob("*.pt"))


def test_a_missing_file_is_told_with_its_place(made: MiniImagenet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"Cannot download {NOWHERE}/{TRAIN} .*put {TRAIN} and "):
        prepare(DataDirs(tmp_path / "data", tmp_path / "cache"), url=NOWHERE)


def test_images_in_two_splits_are_logged(
    made: MiniImagenet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, test = (made.contents[split]["image_data"] for split in ("train", "test"))
    test[1:3] = train[5]
    dataset = prepare(written(tmp_path, made.files()), url=NOWHERE)
    (message,) = caplog.messages
    assert message.startswith("1 examples are in more than one split; none is left out; they are ")
    leaks.check_once(dataset)
