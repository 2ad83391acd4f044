"""A folder of a user's own images becomes a data set, and what is wrong with one is told."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core.errors import UserError
from bench.datasets.images import folder
from bench.datasets.io import memmap
from bench.datasets.io.cache import DataDirs
from bench.datasets.io.class_split import random_split, read_split
from bench.datasets.io.photos import photo
from bench.tasks.classification.domain import Classification
from bench.tasks.classification.own_photos import OwnPhotos
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset

DEFAULTS = {
    "label": None, "side": 8, "channels": 3, "splits": None, "split_seed": 0, "min_classes": 2,
    "min_images": 1, "skip_unreadable": False,
}  # fmt: skip
CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven classes of 3 to 9 images of many sizes, formats and modes, amid other files."""
    root = tmp_path / "data" / "my photos"
    draw = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (root / name / "more").mkdir(parents=True)
        for each in range(3 + number):
            image = Image.fromarray(draw.integers(0, 256, (9 + each, 14, 3), np.uint8))
            image.convert(["RGB", "L", "P"][each % 3]).save(
                root / name / ["", "more"][each % 2] / f"{each}.{['png', 'BMP', 'gif'][each % 3]}"
            )
        (root / name / "notes.txt").write_text("no image")
        (root / name / "._0.png").write_text("what a Mac leaves")
    for hidden in (".hidden", "__MACOSX"):
        (root / hidden).mkdir()
        Image.new("L", (8, 8)).save(root / hidden / "a.png")
    (root / "empty").mkdir()
    return root


@pytest.fixture
def prepare(tmp_path: Path, root: Path) -> Callable[..., Dataset]:
    folders = DataDirs(tmp_path / "archives", tmp_path / "cache")

    def made(**options: object) -> Dataset:
        return folder.prepare(folders, **(DEFAULTS | {"path": str(root)} | options))

    return made


def names(dataset: Dataset) -> list[tuple[str, ...]]:
    return [pool.names for pool in dataset.splits.values()]


def every(dataset: Dataset) -> list[str]:
    return sorted(chain(*names(dataset)))


def test_images_come_by_class_and_file_name(
    root: Path, prepare: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = prepare()
    assert dataset.name == "my-photos"
    assert every(dataset) == list(CLASSES)
    for pool in dataset.splits.values():
        for name, first in zip(pool.names, pool.offsets.tolist(), strict=False):
            files = sorted((root / name).rglob("[0-9].*"), key=Path.as_posix)
            assert len(files) == 3 + CLASSES.index(name)
            expected = np.stack([photo(path, 8, 3) for path in files])
            assert np.array_equal(pool.inputs[first : first + len(files)].numpy(), expected)
    check(dataset.splits)
    assert "42 images of my-photos at 3 x 8 x 8 bytes: 0.0 MB of disk" in capsys.readouterr().err
    again = prepare()
    assert again.digest == dataset.digest and not capsys.readouterr().err
    assert prepare(channels=1).splits["val"].inputs.shape[1:] == (1, 8, 8)
    assert prepare(side=5).splits["val"].inputs.shape[1:] == (3, 5, 5)


def test_a_changed_file_is_noticed_and_an_unchanged_one_not_read(
    root: Path, prepare: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prepare()
    os.utime(root / "ant" / "0.png", ns=(1, 1))
    again = prepare()
    assert again.digest == before.digest, "another time, but the same pixels"
    assert again.original_digest == before.original_digest != ""
    with Image.open(root / "ant" / "0.png") as image:
        image.load()
    image.save(root / "ant" / "0.png", compress_level=0)
    larger = prepare()
    assert larger.digest == before.digest and larger.original_digest != before.original_digest
    Image.new("RGB", (8, 8)).save(root / "ant" / "0.png")
    changed = prepare()
    assert changed.digest != before.digest
    (root / "ant" / "0.png").unlink()
    assert prepare().digest not in (before.digest, changed.digest)
    os.rename(root, root.with_name("moved"))
    monkeypatch.setattr(folder, "photo_or_reason", None)
    assert prepare(path=str(root.with_name("moved")), label="my photos").name == "my-photos"


def test_a_folder_is_found_in_data_root(root: Path, tmp_path: Path) -> None:
    folders = DataDirs(tmp_path / "data", tmp_path / "cache")
    (root / "parts.json").write_text('{"train": ["ant"], "val": ["bee"], "test": ["cat"]}')
    dataset = folder.prepare(folders, **(DEFAULTS | {"path": "my photos", "splits": "parts.json"}))
    assert names(dataset) == [("ant",), ("bee",), ("cat",)]


def test_all_of_a_few_classes_are_tested(
    root: Path, prepare: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    (root / "bee" / "0.png").write_bytes(b"no image")
    for _ in range(2):
        caplog.clear()
        dataset = prepare(min_classes=3, min_images=4, skip_unreadable=True)
        assert names(dataset) == [(), (), CLASSES[1:]]
        assert dataset.splits["train"].inputs.shape == (0, 3, 8, 8)
        assert "6 classes are too few to train on some" in caplog.text
        check(dataset.splits)
        domain = dataset.domain
        assert isinstance(domain, OwnPhotos) and domain.names == CLASSES[1:]
        assert domain.photographs[:3] == ["bee/2.gif", "bee/more/1.BMP", "bee/more/3.png"]
        assert np.bincount(domain.classes).tolist() == dataset.splits["test"].sizes.tolist()
    assert type(prepare(skip_unreadable=True).domain) is Classification


@pytest.mark.parametrize(
    ("number", "sizes"), [(6, (2, 2, 2)), (10, (6, 2, 2)), (13, (8, 2, 3)), (100, (64, 16, 20))]
)
def test_random_splits_have_their_shares(number: int, sizes: tuple[int, ...]) -> None:
    classes = [f"class {n}" for n in range(number)]
    parts = random_split(classes, 0, 2)
    assert tuple(map(len, parts.values())) == sizes
    assert sorted(chain(*parts.values())) == sorted(classes)
    assert random_split(classes[::-1], 0, 2) == parts
    assert all(each == sorted(each) for each in parts.values())
    if number == 100:
        assert [len(each) for each in random_split(classes, 0, 30).values()] == [40, 30, 30]


def test_a_random_split_is_the_same_everywhere_and_moves_little_with_a_class_more() -> None:
    assert random_split("abcdefgh", 0, 2) == SPLIT_OF_LETTERS
    assert random_split("abcdefgh", 1, 2) != SPLIT_OF_LETTERS
    classes = [f"class {n}" for n in range(100)]
    one, more = random_split(classes, 0, 2), random_split([*classes, "new"], 0, 2)
    assert sum(len(set(more[split]) - set(one[split]) - {"new"}) for split in one) <= 2


# worked out with sha256sum: by the hashes of 0/a to 0/h their order is g f, c b, e d a h
SPLIT_OF_LETTERS = {"train": ["a", "d", "e", "h"], "val": ["f", "g"], "test": ["b", "c"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("parts.json", '{"train":\t["bee", "ant"], "val": ["cat"], "test": ["dog"]}'),
        ("parts.yaml", "train: [bee, ant]\nval: [cat]\ntest: [dog]\n"),
    ],
)
def test_splits_of_a_file(
    prepare: Callable[..., Dataset], tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    assert names(prepare(splits=str(tmp_path / name))) == [("ant", "bee"), ("cat",), ("dog",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "is no JSON or YAML"),
        ("&a [*a]", "is no JSON or YAML .*references"),
        ("train: [ant]\nval: [bee]", "must have the keys train, val and test and no others"),
        ("[ant]", "must have the keys"),
        ("train: [ant]\nval: []\ntest: [bee]", "has no classes in val; give it"),
        ("train: ant\nval: [bee]\ntest: [cat]", "has no classes in train; give it"),
        (
            "train: [1]\nval: [bee]\ntest: [cat]",
            "has 1 in train, which is no text; write it in quotes",
        ),
        ("train: [ants]\nval: [bee]\ntest: [cat]", "class 'ants' in train.*; write 'ant'"),
        (
            "train: [ant]\nval: [empty]\ntest: [cat]",
            "class 'empty' in val, of which there are no im",
        ),
        (
            "train: [ant, bee]\nval: [bee]\ntest: [cat]",
            "class 'bee' 2 times; leave it in one split",
        ),
    ],
)
def test_a_wrong_split_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "parts.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_split(path, CLASSES)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def no_folder(root: Path) -> dict[str, object]:
    return {"path": "nowhere"}


def no_path(root: Path) -> dict[str, object]:
    return {"path": None}


def a_file(root: Path) -> dict[str, object]:
    return {"path": str(root / "ant" / "0.png")}


def no_classes(root: Path) -> dict[str, object]:
    return {"path": str(root / "empty")}


def no_sub_folders(root: Path) -> dict[str, object]:
    return {"path": str(root / "ant" / "more")}


def other_kinds(root: Path) -> dict[str, object]:
    (root / "empty" / "a").mkdir()
    (root / "empty" / "a" / "notes.txt").touch()
    return {"path": str(root / "empty")}


def one_left(root: Path) -> dict[str, object]:
    return {"min_images": 9}


def none_left(root: Path) -> dict[str, object]:
    return {"min_images": 50}


def no_split_file(root: Path) -> dict[str, object]:
    return {"splits": "nowhere.json"}


def one_image(root: Path) -> dict[str, object]:
    for path in [*(root / "ant").rglob("[0-9].*")][1:]:
        path.unlink()
    return {}


def broken(root: Path) -> dict[str, object]:
    for name in ("ant", "bee"):
        (root / name / "0.png").write_bytes(b"no image")
    return {}


def broken_class(root: Path) -> dict[str, object]:
    for path in [*(root / "fox").rglob("[0-9].*")]:
        path.write_bytes(b"no image")
    return {"skip_unreadable": True}


def shared(root: Path) -> dict[str, object]:
    parts = {"train": ["ant", "bee"], "val": ["cat"], "test": ["dog"]}
    (root / "parts.json").write_text(json.dumps(parts))
    (root / "dog" / "again.png").write_bytes((root / "bee" / "0.png").read_bytes())
    return {"splits": "parts.json", "path": str(root)}


def layout_of_splits(root: Path) -> dict[str, object]:
    for split in ("train", "Val", "test"):
        (root / "splits" / split / "ant").mkdir(parents=True)
        (root / "splits" / split / "ant" / "0.png").write_bytes(b"")
    return {"path": str(root / "splits")}


def two_splits(root: Path) -> dict[str, object]:
    for split in ("train", "test"):
        (root / "splits" / split / split).mkdir(parents=True)
    return {"path": str(root / "splits")}


def nested_folders(root: Path) -> dict[str, object]:
    return {"path": str(cameras(root))}


def within_no_group(root: Path) -> dict[str, object]:
    return {"within": "group"}


def cameras(root: Path) -> Path:
    """The same six classes below the folders of two cameras."""
    place = root.parent / "by camera"
    for number, camera in enumerate(("canon", "nikon")):
        for name in CLASSES[:6]:
            (place / camera / name).mkdir(parents=True)
            for each in range(3):
                colour = (40 * number + each, 40 * CLASSES.index(name), 9)
                Image.new("RGB", (9, 9), colour).save(place / camera / name / f"{each}.png")
    return place


def huge(root: Path) -> dict[str, object]:
    """A small file that would take gigabytes."""
    Image.new("1", (9000, 9000)).save(root / "ant" / "0.png")
    return {}


def known_name(root: Path) -> dict[str, object]:
    return {"label": "omniglot"}


def test_all_faults_of_a_folder_are_told_in_one_round(
    root: Path, prepare: Callable[..., Dataset]
) -> None:
    (root / "bee" / "0.png").write_bytes(b"no image")
    for path in [*(root / "ant").rglob("[1-9].*")]:
        path.unlink()
    (root / "dog" / "again.png").write_bytes((root / "cat" / "0.png").read_bytes())
    parts = root.parent / "parts.yaml"

    def said(text: str) -> str:
        parts.write_text(text)
        with pytest.raises(UserError) as caught:
            prepare(splits=str(parts))
        return str(caught.value)

    found = said("train: [ant, bee]\nval: [cat]\ntest: [dog]")
    assert found.startswith("1 of 17 files in ") and "read: bee/0.png (it is no image" in found
    assert f"; also: {root} has classes of fewer than 2 images: ant; add images" in found
    assert f"; also: 1 images in {root} are in two splits, as are cat/0.png (val) and do" in found
    found = said("train: [ants, bee, bee]\nval: [cat, dgo]\ntest: []")
    assert found.startswith(f"{root}: {parts} has the class 'ants' in train, of which there are no")
    for fault in ("class 'dgo' in val", "no classes in test", "class 'bee' 2 times", "bee/0.png"):
        assert fault in found
    found = said(f"train: {list(range(10, 30))}\nval: [{', '.join('opqrstuvwxyz')}]\ntest: [dog]")
    assert (
        "'w' in val" in found
        and "'x' in val" not in found
        and "; also: 3 more; also: 1 of" in found
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            no_folder,
            "There is no nowhere, neither here nor in .*archives; say .* with dataset.path=",
        ),
        (no_path, "needs images; name their folder with dataset.path="),
        (a_file, "0.png is a file; name a folder that holds one sub-folder a class"),
        (no_classes, "empty holds no sub-folders with images; make one sub-folder of images"),
        (no_sub_folders, "more holds images, but not in sub-folders; make one sub-folder"),
        (
            other_kinds,
            r"holds no sub-folders with images \(files such as a/notes.txt are not read\)",
        ),
        (
            one_left,
            r"1 classes are too few for 2 ways: .* 6 .*\(dataset.min_images left out ant, bee, cat",
        ),
        (none_left, "No class in .* has 50 images; lower dataset.min_images"),
        (no_split_file, "no nowhere.json, neither here nor .* with dataset.splits="),
        (one_image, "classes of fewer than 2 images: ant; add .* dataset.min_images=2"),
        (
            broken,
            r"2 of 42 files in .* cannot be read: (ant/0.png|bee/0.png) \(it is no image that Pillow "
            r"knows\), .*; repair or delete them, or leave them out with dataset.skip_unreadable=true",
        ),
        (broken_class, "classes of fewer than 2 images: fox;"),
        (
            shared,
            r"1 images in .* are in two splits.*bee/0.png \(train\) and dog/again.png \(test\);",
        ),
        (layout_of_splits, "train and val share the classes ant, where a few-shot test needs"),
        (two_splits, "holds test, train: give train, val and test, each with its own classes, or"),
        (nested_folders, "holds folders of images alone, such as canon/ant. Say what they are by"),
        (
            within_no_group,
            "dataset.within=group needs groups of classes: dataset.nested=group/class",
        ),
        (
            huge,
            "ant/0.png .it has 81,000,000 pixels, and 67,108,864 are the most.; repair or delete",
        ),
        (known_name, "'omniglot' is the name of another data set; .* dataset.label="),
    ],
)
def test_a_mistake_is_told(
    root: Path,
    prepare: Callable[..., Dataset],
    spoil: Callable[[Path], dict[str, object]],
    message: str,
) -> None:
    options = spoil(root)
    for _ in range(2):  # what was prepared is no way around it
        with pytest.raises(UserError, match=message) as caught:
            prepare(**options)
        assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_left_out_on_request(
    root: Path, prepare: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare()
    (root / "ant" / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="ant/0.png"):
        prepare()
    monkeypatch.setattr(folder, "photo_or_reason", None)  # what was read is not read again
    rest = prepare(skip_unreadable=True)
    for one, other in zip(whole.splits.values(), rest.splits.values(), strict=True):
        assert one.names == other.names
        start = int(one.offsets[one.names.index("ant")]) if "ant" in one.names else None
        kept = [n for n in range(len(one.inputs)) if n != start]
        assert torch.equal(one.inputs[kept], other.inputs)
        assert other.sizes.sum() == len(other.inputs)
    with pytest.raises(UserError, match="ant/0.png"):
        prepare()


def test_what_was_left_out_is_said_whenever_it_is_read(
    root: Path, prepare: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    (root / "ant" / "0.png").write_bytes(b"no image")
    for _ in range(2):
        caplog.clear()
        made = prepare(skip_unreadable=True)
        assert made.left_out.startswith(
            "1 of 42 files, which cannot be read: ant/0.png (it is no image"
        )
        assert f"my-photos leaves out {made.left_out}" in caplog.text


def test_equal_images_of_one_split_are_said_whenever_they_are_read(
    root: Path, prepare: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    parts = {"train": ["ant", "bee"], "val": ["cat"], "test": ["dog"]}
    (root / "parts.json").write_text(json.dumps(parts))
    for copy in ("ant/again.png", "ant/twice.png", "bee/another.png"):
        (root / copy).write_bytes((root / "ant" / "0.png").read_bytes())
    for _ in range(2):
        caplog.clear()
        prepare(splits="parts.json")
        assert (
            "my-photos: images that repeat one of their own class: 2, such as ant/0.png and ant/again.png"
            in caplog.text
        )
        assert (
            "my-photos: images that are in two classes: 1, such as ant/0.png and bee/"
            in caplog.text
        )


def test_small_classes_and_other_files_are_passed_over_and_named(
    root: Path, prepare: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    assert every(prepare(min_images=4)) == list(CLASSES[1:])
    assert "my-photos passes over ant, with too few images" in caplog.text
    assert "ant/notes.txt, bee/notes.txt, cat/notes.txt and 4 more, of kinds that" in caplog.text


def test_a_preparation_that_was_cut_off_goes_on(
    prepare: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare()
    for path in (tmp_path / "cache" / "prepared").iterdir():
        path.unlink()
    read: list[str] = []
    real = folder.photo_or_reason

    def counted(path: Path, side: int, channels: int) -> object:
        read.append(path.name)
        if len(read) == 30:
            raise KeyboardInterrupt
        return real(path, side, channels)

    monkeypatch.setattr(folder, "photo_or_reason", counted)
    monkeypatch.setattr(memmap, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        prepare()
    (state,) = (tmp_path / "cache").rglob("*.json")
    done = json.loads(state.read_text())["done"]
    assert 20 <= done < 30
    with state.with_suffix(".pixels").open("ab") as file:
        file.write(b"a part of an image")
    read.clear()
    read.extend([""] * 30)
    again = prepare()
    assert len(read) - 30 == 42 - done, "only the rest is read"
    assert again.digest == whole.digest


@pytest.mark.parametrize("damage", ["flipped", "short", "facts"])
def test_damage_is_noticed_and_mended(
    prepare: Callable[..., Dataset], tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = prepare()
    (path,) = (tmp_path / "cache").rglob("*.pixels")
    if damage == "facts":
        path.with_suffix(".json").write_text("{}")
    else:
        content = bytearray(path.read_bytes())
        content[1000] ^= 1
        path.write_bytes(content if damage == "flipped" else content[:-1])
    caplog.clear()
    assert prepare().digest == good.digest
    assert ("is damaged and is prepared anew" in caplog.text) == (damage != "facts")
    caplog.clear()
    assert prepare().digest == good.digest and not caplog.text


def test_a_cache_that_cannot_be_written_is_a_warning(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    folders = DataDirs(tmp_path, tmp_path / "file")
    made = folder.prepare(folders, **(DEFAULTS | {"path": str(root)}))
    assert "every run prepares it anew" in caplog.text
    check(made.splits)


def test_a_disk_without_room_is_told_before_any_work(
    prepare: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memmap.shutil, "disk_usage", lambda _: SimpleNamespace(free=8000))
    monkeypatch.setattr(folder, "photo_or_reason", None)
    with pytest.raises(UserError, match="42 images of my-photos take 0 MB .* cache_dir="):
        prepare()


def test_a_disk_that_fills_up_is_told(
    prepare: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memmap, "atomic_write", full)
    with pytest.raises(UserError, match="Cannot keep the images of my-photos .*No space left"):
        prepare()


def test_names_fit_tables_and_files(prepare: Callable[..., Dataset]) -> None:
    assert folder.label_of("Кошки и собаки") == "Кошки-и-собаки"
    assert folder.label_of("a/../b:c²") == "a-..-b-c"
    assert folder.label_of("...") == folder.label_of("") == "folder"
    assert len(folder.label_of("x" * 300)) == 40


@pytest.mark.slow
def test_a_pool_larger_than_the_memory_allowed_is_drawn_from(tmp_path: Path) -> None:
    """In a process of its own: the heap of a long one has room that no limit counts."""
    call = f"from {__name__} import draw_with_little_memory as draw; draw({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def draw_with_little_memory(folder_name: str) -> None:
    """96 MB of images are made and drawn where no more than 48 MB of memory may be taken."""
    shape, count = (3, 256, 256), 512
    path = Path(folder_name) / "large.pixels"

    def image(number: int) -> np.ndarray:
        return np.full(shape, number % 251, np.uint8)

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status").read_text()
    taken = int(status.split("VmData:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (taken + 48 * 2**20, hard))
    try:
        with pytest.raises((MemoryError, RuntimeError)):
            torch.zeros(count, *shape, dtype=torch.uint8)
        memmap.build(path, "large", range(count), shape, image)
        images = memmap.open_memmap(path, count, shape)
        rows = torch.tensor([3, 500, 77])
        drawn = images.index_select(0, rows)
        assert drawn.flatten(1).float().mean(1).tolist() == [3, 249, 77]
        pool = folder.Pool(images, torch.tensor([0, count]), ("all",))
        assert pool.to("cpu").inputs.data_ptr() == images.data_ptr(), "not copied"
        digest = memmap.content_digest({"train": pool})
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (-1, hard))
    assert digest == memmap.content_digest({"train": pool})


def test_photos_of_phones_are_read_where_pillow_heif_is(
    root: Path, prepare: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (20, 20), (200, 0, 0)).save(root / "ant" / "IMG_1.HEIC", format="HEIF")
    with_it = sum(len(pool.inputs) for pool in prepare().splits.values())
    known = folder.suffixes()
    monkeypatch.setattr(folder, "suffixes", lambda: known - set(folder.PHONES))
    without_it = sum(len(pool.inputs) for pool in prepare().splits.values())
    assert with_it == without_it + 1
    (root / "empty" / "a").mkdir()
    (root / "empty" / "a" / "IMG_2.heic").touch()
    with pytest.raises(
        UserError, match="IMG_2.heic are not read; install pillow-heif to read HEIC"
    ):
        prepare(path=str(root / "empty"))


def test_a_link_to_a_folder_around_it_is_passed_over(
    root: Path, prepare: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    (root / "all").symlink_to(root)
    assert every(prepare()) == sorted(CLASSES)
    assert "all (a link to a folder that it is in)" in caplog.text


def test_folders_of_splits_are_the_splits(root: Path, prepare: Callable[..., Dataset]) -> None:
    place = root.parent / "splits"
    parts = {"training": CLASSES[:3], "valid": CLASSES[3:5], "Test": CLASSES[5:]}
    for split, those in parts.items():
        (place / split).mkdir(parents=True)
        for name in those:
            (root / name).rename(place / split / name)
    dataset = prepare(path=str(place))
    assert names(dataset) == [CLASSES[:3], CLASSES[3:5], CLASSES[5:]]
    assert dataset.splits["test"].sizes.tolist() == [8, 9]
    assert dataset.original is not None and dataset.original("val", 0).size[0] > 8


def test_classes_of_cameras_are_the_same_by_name(
    root: Path, prepare: Callable[..., Dataset]
) -> None:
    dataset = prepare(path=str(cameras(root)), nested="any/class")
    assert every(dataset) == sorted(CLASSES[:6])
    assert all(pool.sizes.eq(6).all() for pool in dataset.splits.values())


def test_groups_of_classes_are_not_divided(root: Path, prepare: Callable[..., Dataset]) -> None:
    place = cameras(root)
    for group in ("pentax", "leica"):
        (place / group).mkdir()
        for name in CLASSES[:3]:
            (place / group / name).mkdir()
            for each in range(2):
                colour = (each, len(group), 7 * CLASSES.index(name))
                Image.new("RGB", (9, 9), colour).save(place / group / name / f"{each}.png")
    dataset = prepare(path=str(place), nested="group/class", within="group")
    groups = [set(pool.groups) for pool in dataset.splits.values()]
    assert set.union(*groups) == {"canon", "nikon", "pentax", "leica"}
    assert sum(map(len, groups)) == 4 and all(groups)
    assert all(name.startswith(group) for pool in dataset.splits.values()
               for name, group in zip(pool.names, pool.groups, strict=True))  # fmt: skip
    assert dataset.splits["test"].within_group and dataset.name == "by-camera-within"
    with pytest.raises(
        UserError, match="4 groups of 18 classes are too few for train, val and test"
    ):
        prepare(path=str(place), nested="group/class", min_classes=6)


def test_parts_of_a_class_are_one_class_if_that_is_said(
    root: Path, prepare: Callable[..., Dataset]
) -> None:
    dataset = prepare(path=str(cameras(root)), nested="class")
    assert every(dataset) == ["canon", "nikon"]
