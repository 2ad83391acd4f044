"""CUB-200-2011, from small archives in the official layout."""

import hashlib
import io
import logging
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from algorithms.learner import Setting
from bench.core.errors import UserError
from bench.datasets.images import cub
from bench.datasets.io.cache import DataDirs
from bench.datasets.io.photos import photo
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Dataset
from tests.bench.datasets.fakes import Server, entry, packed

NOWHERE = "http://127.0.0.1:9/CUB_200_2011.tgz"
NAMES = [
    "001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross",
    "004.Groove_billed_Ani", "005.Crested_Auklet", "006.Least_Auklet", "007.Parakeet_Auklet",
    "008.Rhinoceros_Auklet",
]  # fmt: skip


class Birds:
    """Eight classes of two or three photographs of various sizes, one of them grey."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.photographs: dict[str, bytes] = {}
        for number, name in enumerate(NAMES):
            for each in range(2 + number % 2):
                low = Image.fromarray(draw.integers(0, 256, (3, 4, 3), np.uint8))
                image = low.resize((110 + 40 * each, 120 - each), Image.Resampling.BICUBIC)
                buffer = io.BytesIO()
                image.convert("L" if number == each == 2 else "RGB").save(buffer, "JPEG")
                self.photographs[f"{name}/{name[4:]}_{each:04}_{number}.jpg"] = buffer.getvalue()
        self.files = list(self.photographs)
        self.labels = [str(NAMES.index(file.split("/")[0]) + 1) for file in self.files]
        self.names = list(NAMES)

    def members(self) -> dict[str, bytes]:
        lists = {
            "images": self.files, "image_class_labels": self.labels, "classes": self.names
        }  # fmt: skip
        texts = {
            f"CUB_200_2011/{name}.txt": "".join(f"{n} {v}\n" for n, v in enumerate(values, 1))
            for name, values in lists.items()
        }
        images = {f"CUB_200_2011/images/{n}": each for n, each in self.photographs.items()}
        others = {
            "attributes.txt": b"1 has_bill_shape::curved\n",
            "CUB_200_2011/bounding_boxes.txt": b"1 60.0 27.0 325.0 304.0\n",
            "CUB_200_2011/images/._001.Black_footed_Albatross": b"junk",
        }
        # some photographs come before the lists
        first = dict(list(images.items())[::-2])
        encoded = {name: text.encode() for name, text in texts.items()}
        return others | first | encoded | images

    def write(self, root: Path, content: bytes | None = None) -> Path:
        path = root / "cub" / "CUB_200_2011.tgz"
        path.parent.mkdir(parents=True)
        path.write_bytes(content or packed(self.members()))
        return path


@pytest.fixture
def birds(monkeypatch: pytest.MonkeyPatch) -> Birds:
    made = Birds()
    monkeypatch.setattr(cub, "CLASSES", 8)
    monkeypatch.setattr(cub, "IMAGES", len(made.files))
    monkeypatch.setattr(cub, "MD5", hashlib.md5(packed(made.members())).hexdigest())
    return made


def prepare(tmp_path: Path, url: str = NOWHERE) -> Dataset:
    return cub.prepare(DataDirs(tmp_path / "data", tmp_path / "cache"), url=url)


def test_the_split_is_that_of_chen_et_al() -> None:
    """By the rule of their code, on numbers from 0: even; 1 and 3 modulo 4."""
    parts = cub.split_names([str(n) for n in range(200)])
    assert [len(each) for each in parts.values()] == [100, 50, 50]
    assert all(int(n) % 2 == 0 for n in parts["train"])
    assert all(int(n) % 4 == 1 for n in parts["val"])
    assert all(int(n) % 4 == 3 for n in parts["test"])


def test_images_come_by_class_and_file_name(
    birds: Birds, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    birds.write(tmp_path / "data")
    made = prepare(tmp_path)
    assert not caplog.messages
    assert (made.name, made.expected_duplicates) == ("cub", None)
    assert made.splits["train"].names == tuple(NAMES[::2])
    assert made.splits["val"].names == (NAMES[1], NAMES[5])
    assert made.splits["test"].names == (NAMES[3], NAMES[7])
    for pool in made.splits.values():
        files = [f for name in pool.names for f in birds.files if f.startswith(name)]
        expected = [photo(io.BytesIO(birds.photographs[file]), 84, 3) for file in files]
        assert np.array_equal(pool.inputs.numpy(), np.stack(expected))
        assert pool.inputs.shape[1:] == (3, 84, 84)
    assert prepare(tmp_path).digest == made.digest
    assert not list((tmp_path / "cache").rglob("*.jpg"))


def test_another_packing_is_told_and_taken(
    birds: Birds, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = {f"./{name}": content for name, content in reversed(birds.members().items())}
    birds.write(tmp_path / "data", packed(other))
    caplog.set_level(logging.WARNING)
    assert prepare(tmp_path).splits["test"].names == (NAMES[3], NAMES[7])
    assert "its MD5 sum is" in caplog.text and cub.MD5 in caplog.text


def test_pretrained_networks_see_whole_photographs_of_that_archive(
    birds: Birds, tmp_path: Path
) -> None:
    path = birds.write(tmp_path / "data")
    made = prepare(tmp_path)
    assert made.original is not None
    for split, pool in made.splits.items():
        files = [f for name in pool.names for f in birds.files if f.startswith(name)]
        for index, file in enumerate(files):
            whole = Image.open(io.BytesIO(birds.photographs[file])).convert("RGB")
            found = made.original(split, index)
            assert found.size == whole.size and found.tobytes() == whole.tobytes()

    birds.photographs[birds.files[0]] = birds.photographs[birds.files[1]]
    path.write_bytes(packed(birds.members()))
    with pytest.raises(UserError, match="is another than cub was prepared from"):
        prepare(tmp_path).original("train", 0)
    path.write_bytes(packed(birds.members())[:-500])
    with pytest.raises(UserError, match=r"CUB_200_2011.tgz is damaged \(.*\): bring it back"):
        prepare(tmp_path).original("train", 0)
    path.unlink()
    with pytest.raises(UserError, match="see the original photographs: put CUB_200_2011.tgz into"):
        prepare(tmp_path).original("train", 0)


def test_kinds_are_groups_that_episodes_may_stay_in(birds: Birds, tmp_path: Path) -> None:
    birds.write(tmp_path / "data")
    assert prepare(tmp_path).splits["train"].groups == (
        "Albatross",
        "Albatross",
        "Auklet",
        "Auklet",
    )
    folders = DataDirs(tmp_path / "data", tmp_path / "cache")
    within = cub.prepare(folders, url=NOWHERE, within="group")
    assert within.name == "cub-within" and within.digest != prepare(tmp_path).digest
    classes = EpisodeSampler(within.splits["train"], Setting(2, 1, 1), ()).classes(0, 20)
    assert {tuple(sorted(each)) for each in classes.tolist()} == {(0, 1), (2, 3)}


def no_list(made: Birds) -> bytes:
    members = made.members()
    del members["CUB_200_2011/images.txt"]
    return packed(members)


def fewer_classes(made: Birds) -> bytes:
    made.names.pop()
    return packed(made.members())


def other_classes(made: Birds) -> bytes:
    made.names[2] = "003.a/b"
    return packed(made.members())


def swapped_classes(made: Birds) -> bytes:
    made.names[:2] = made.names[1::-1]
    return packed(made.members())


def fewer_labels(made: Birds) -> bytes:
    made.labels.pop()
    return packed(made.members())


def no_label(made: Birds) -> bytes:
    made.labels[0] = "9"
    return packed(made.members())


def wrong_label(made: Birds) -> bytes:
    made.labels[0] = "2"
    return packed(made.members())


def an_image_less(made: Birds) -> bytes:
    del made.photographs[made.files[3]]
    return packed(made.members())


def an_image_more(made: Birds) -> bytes:
    made.photographs[f"{NAMES[0]}/more.jpg"] = made.photographs[made.files[0]]
    return packed(made.members())


def another_name(made: Birds) -> bytes:
    made.photographs[f"{NAMES[0]}/other.jpg"] = made.photographs.pop(made.files[0])
    made.files[0] = made.files[1]
    return packed(made.members())


def no_image(made: Birds) -> bytes:
    made.photographs[made.files[4]] = b"no image"
    return packed(made.members())


def another_format(made: Birds) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (99, 99)).save(buffer, "PNG")
    made.photographs[made.files[4]] = buffer.getvalue()
    return packed(made.members())


def empty_class(made: Birds) -> bytes:
    moved = [file for file in made.files if file.startswith(NAMES[7])]
    for file in moved:
        new = file.replace(NAMES[7], NAMES[6], 1)
        made.photographs[new] = made.photographs.pop(file)
        made.files[made.files.index(file)] = new
    made.labels = [str(min(int(label), 7)) for label in made.labels]
    return packed(made.members())


def announces_much(made: Birds) -> bytes:
    return packed({}, (entry(f"CUB_200_2011/images/{made.files[0]}", 2**40), b""))


def others_announce_much(made: Birds) -> bytes:
    return packed({}, (entry("CUB_200_2011/attributes/labels.txt", 2**40), b""))


def link(made: Birds) -> bytes:
    name = f"CUB_200_2011/images/{made.files[0]}"
    return packed({}, (entry(name, 0, type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""))


def truncated(made: Birds) -> bytes:
    return packed(made.members())[:-500]


def not_gzip(made: Birds) -> bytes:
    return b"<html>log in first</html>"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_list, "its images.txt has not the numbers 1 to 20"),
        (fewer_classes, "its classes.txt has not the numbers 1 to 8"),
        (fewer_labels, "its image_class_labels.txt has not the numbers 1 to 20"),
        (other_classes, "its class 3 is named '003.a/b'"),
        (swapped_classes, "its class 1 is named '002.Laysan_Albatross'"),
        (no_label, "has the label 9"),
        (wrong_label, "is not in the folder of its label 2"),
        (an_image_less, "has no image 002.Laysan_Albatross/Laysan_Albatross_0001_1.jpg"),
        (an_image_more, "more than 20 images"),
        (another_name, "image 001.Black_footed_Albatross/other.jpg is not in images.txt"),
        (no_image, "0002_1.jpg cannot be read: it is no image that Pillow knows"),
        (another_format, "cannot be read: it is no image that Pillow knows"),
        (empty_class, "no images of 008.Rhinoceros_Auklet"),
        (announces_much, "has 1099511627776 bytes, 5000000 are possible"),
        (others_announce_much, "has 1099511627776 bytes, 499999488 are possible"),
        (link, "is no plain file"),
        (truncated, "damaged or not CUB-200-2011"),
        (not_gzip, "damaged or not CUB-200-2011"),
    ],
)
def test_a_wrong_archive_is_named(
    birds: Birds, tmp_path: Path, spoil: Callable[[Birds], bytes], message: str
) -> None:
    path = birds.write(tmp_path / "data", spoil(birds))
    with pytest.raises(UserError, match=message) as caught:
        prepare(tmp_path)
    assert str(caught.value).startswith(f"{path} ")
    assert str(caught.value).endswith(
        "put the official file there, or delete it to have it downloaded"
    )
    assert str(caught.value).isprintable()
    assert not list(tmp_path.rglob("*.pt"))


def test_the_archive_is_downloaded_once_and_kept(
    birds: Birds, server: Server, tmp_path: Path
) -> None:
    server.bodies["/CUB_200_2011.tgz"] = packed(birds.members())
    made = prepare(tmp_path, f"{server.url}/CUB_200_2011.tgz")
    assert (tmp_path / "cache" / "cub" / "CUB_200_2011.tgz").exists()
    for path in (tmp_path / "cache" / "prepared").glob("*.pt"):
        path.unlink()
    assert prepare(tmp_path).digest == made.digest
    assert len(server.asked) == 1


def test_without_archive_it_is_told_where_to_put_it(birds: Birds, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"put CUB_200_2011.tgz into {tmp_path}/data/cub yourself"):
        prepare(tmp_path)


def test_images_in_two_splits_are_told(
    birds: Birds, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    birds.photographs[birds.files[2]] = birds.photographs[birds.files[0]]
    birds.write(tmp_path / "data")
    prepare(tmp_path)
    assert "1 examples are in more than one split; none is left out" in caplog.text
