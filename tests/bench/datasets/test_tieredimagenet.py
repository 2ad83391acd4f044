"""tieredImageNet from its six pickles, made small; the facts that are checked, and what is said."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core.errors import UserError
from bench.datasets.images import tieredimagenet
from bench.datasets.images.tieredimagenet import prepare
from bench.datasets.io import memmap
from bench.datasets.io.cache import DataDirs
from bench.tasks import leaks
from tests.bench.datasets.fakes import Server, TieredImagenet, png, python, python2, python3

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tieredimagenet, "CLASSES", TieredImagenet.CLASSES)
    monkeypatch.setattr(tieredimagenet, "IMAGES", TieredImagenet.IMAGES)


def written(
    tmp_path: Path, contents: dict[str, object], write: Callable[[object], bytes] = python2
) -> DataDirs:
    folder = tmp_path / "data" / "tieredimagenet"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(write(content))
    return DataDirs(tmp_path / "data", tmp_path / "cache")


def test_the_real_files_have_these_classes_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert tieredimagenet.CLASSES == {"train": 351, "val": 97, "test": 160}
    assert sum(tieredimagenet.CLASSES.values()) == 608
    assert tieredimagenet.IMAGES == {"train": 448_695, "val": 124_261, "test": 206_209}
    assert sum(tieredimagenet.IMAGES.values()) == 779_165


@pytest.mark.parametrize("write", [python2, python3, python(3), python(4)])
def test_images_come_by_class_and_stay_in_a_file(
    tmp_path: Path, write: Callable[[object], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    made = TieredImagenet()
    folders = written(tmp_path, made.contents(), write)
    dataset = prepare(folders, url=NOWHERE)
    for split in made.LABELS:
        classes, pool = made.classes(split), dataset.splits[split]
        assert pool.names == tuple(classes)
        assert pool.sizes.tolist() == [len(images) for images in classes.values()]
        assert torch.equal(pool.inputs, torch.cat(list(classes.values())))
    (file,) = (tmp_path / "cache").rglob("*.pixels")
    assert file.stat().st_size == 18 * 3 * 84 * 84
    for path in (tmp_path / "data" / "tieredimagenet").iterdir():
        path.unlink()
    memmap._whole.clear()
    assert prepare(folders, url=NOWHERE).digest == dataset.digest, "prepared once"

    with file.open("r+b") as opened:
        opened.seek(1000)
        opened.write(b"?")
    os.utime(file, ns=(0, 0))
    with pytest.raises(UserError, match="Cannot download"):
        prepare(folders, url=NOWHERE)
    assert "is damaged and is prepared anew" in caplog.text


def test_the_files_that_learn2learn_knows_are_downloaded(tmp_path: Path, server: Server) -> None:
    made = TieredImagenet()
    contents = {name: python2(content) for name, content in made.contents().items()}
    server.bodies = {f"/tiered-imagenet-{name}": content for name, content in contents.items()}
    folders = DataDirs(tmp_path / "data", tmp_path / "cache")
    dataset = prepare(folders, url=server.url)
    assert torch.equal(dataset.splits["val"].inputs, torch.cat(list(made.classes("val").values())))
    for name, content in contents.items():
        assert (tmp_path / "cache" / "tieredimagenet" / name).read_bytes() == content


def of_images(change: Callable[[list], object]) -> Callable[[dict], None]:
    def spoil(contents: dict) -> None:
        contents["train_images_png.pkl"] = change(contents["train_images_png.pkl"])

    return spoil


def of_labels(labels: object) -> Callable[[dict], None]:
    def spoil(contents: dict) -> None:
        contents["train_labels.pkl"] = {"label_specific": labels}

    return spoil


def png_array(image: Image.Image) -> np.ndarray:
    return np.frombuffer(png(image), np.uint8)


CUT = "an image cannot be decoded"
IMAGE = Image.new("RGB", (84, 84))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (of_images(lambda images: images[:-1]), "it is not a list of 8 images"),
        (of_images(lambda images: {"images": images}), "it is not a list of 8 images"),
        (of_images(lambda images: [*images[:-1], 3]), "its images are not arrays of bytes"),
        (of_images(lambda images: [*images[:-1], images[7][:900]]), CUT),
        (of_images(lambda images: [*images[:-1], png_array(IMAGE.resize((85, 84)))]), CUT),
        (of_images(lambda images: [*images[:-1], png_array(IMAGE.convert("L"))]), CUT),
        (of_labels(np.array([2, 0, 1, 0, 2, 2, 1, 1], np.uint8)), "are not an array of numbers"),
        (of_labels([2, 0, 1, 0, 2, 2, 1, 1]), "are not an array of numbers"),
        (of_labels(np.array([2, 0, 1], np.int32)), "are not those of 8 images"),
        (of_labels(np.array([3, 0, 1, 0, 2, 2, 1, 1])), "are not the numbers of 3 classes"),
        (of_labels(np.array([-1, 0, 1, 0, 2, 2, 1, 1])), "are not the numbers of 3 classes"),
        (of_labels(np.array([1, 0, 1, 0, 1, 1, 1, 1])), "are not the numbers of 3 classes"),
    ],
)
def test_another_file_is_refused_in_a_sentence(
    tmp_path: Path, spoil: Callable[[dict], None], reason: str
) -> None:
    contents = TieredImagenet().contents()
    spoil(contents)
    folders = written(tmp_path, contents, python(4))
    with pytest.raises(UserError) as caught:
        prepare(folders, url=NOWHERE)
    told = str(caught.value)
    assert told.startswith(f"{folders.archives / 'tieredimagenet'}/train_")
    assert "is damaged or not of the train split of tieredImageNet (" in told
    assert f"{reason}); put the official file there, or delete it to have it downloaded" in told
    assert "\n" not in told


def test_a_mended_file_goes_on(tmp_path: Path) -> None:
    made = TieredImagenet()
    contents = made.contents()
    good = contents["test_images_png.pkl"]
    contents["test_images_png.pkl"] = [*good[:-1], good[-1][:99]]
    folders = written(tmp_path, contents, python(4))
    with pytest.raises(UserError, match="test_images_png.pkl is damaged"):
        prepare(folders, url=NOWHERE)
    (folders.archives / "tieredimagenet" / "test_images_png.pkl").write_bytes(python(4)(good))
    dataset = prepare(folders, url=NOWHERE)
    assert torch.equal(
        dataset.splits["test"].inputs, torch.cat(list(made.classes("test").values()))
    )


def test_images_in_two_splits_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = TieredImagenet()
    made.pixels["test"][0] = made.pixels["val"][1]
    dataset = prepare(written(tmp_path, made.contents()), url=NOWHERE)
    (message,) = caplog.messages
    assert message.startswith("1 examples are in more than one split; none is left out; they are ")
    leaks.check_once(dataset)
