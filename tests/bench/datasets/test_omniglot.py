import io
import logging
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from algorithms.learner import Setting
from bench.core.errors import UserError
from bench.datasets.images import omniglot
from bench.datasets.images.omniglot import images_in, prepare, split_names
from bench.datasets.io.cache import DataDirs
from bench.tasks import leaks
from bench.tasks.episodes import episodes_of
from bench.tasks.pool import Dataset
from tests.bench.datasets.fakes import CLASSES, Archives, Server, png
from tools.campaigns.coverage import GROUPS

NOWHERE = "http://127.0.0.1:9/python"
TRAIN, VAL = CLASSES["images_background"]
(TEST,) = CLASSES["images_evaluation"]


def test_the_split_is_that_of_vinyals() -> None:
    names = split_names()
    assert {split: len(of) for split, of in names.items()} == {
        "train": 1028,
        "val": 172,
        "test": 423,
    }
    alphabets = Counter(name.split("/")[1] for name in names["test"])
    assert sorted(alphabets.values()) == sorted(GROUPS["omniglot"])
    every = [name for of in names.values() for name in of]
    assert len(set(every)) == 1623
    stems = Counter(name.split("/")[0] for name in every)
    assert stems == {"images_background": 964, "images_evaluation": 659}
    assert "images_background/Armenian/character01" in names["val"]
    assert "images_evaluation/Gurmukhi/character41" in names["train"]
    assert "images_evaluation/Gurmukhi/character42" in names["test"]


def test_the_pixels_are_those_of_pillow_with_ink_as_255(archives: Archives, tmp_path: Path) -> None:
    archives.write(tmp_path / "data")
    folders = DataDirs(tmp_path / "data", tmp_path / "cache")
    made = prepare(folders, rotations="none", url=NOWHERE)
    assert made.inverted and made.resampling == "nearest"
    for split, name in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        pool = made.splits[split]
        assert pool.names == (name,) and pool.groups == (name.rsplit("/", 1)[0],)
        assert torch.equal(pool.inputs, archives.images[name])
        assert pool.inputs.unique().tolist() == [0, 255]


def test_turning_before_or_after_resampling_is_the_same(archives: Archives, tmp_path: Path) -> None:
    archives.write(tmp_path / "data")
    folders = DataDirs(tmp_path / "data", tmp_path / "cache")
    pool = prepare(folders, rotations="all", url=NOWHERE).splits["train"]
    assert pool.names == (TRAIN, f"{TRAIN}@90", f"{TRAIN}@180", f"{TRAIN}@270")
    original = Image.open(io.BytesIO(archives.members["images_background"][f"{TRAIN}/0001_01.png"]))
    for quarter in range(4):
        turned = original.rotate(90 * quarter).resize((28, 28)).convert("L")
        assert np.array_equal(pool.inputs[20 * quarter, 0], 255 - np.asarray(turned))


def test_classes_may_be_turned_in_some_splits_or_once_an_episode(
    archives: Archives, tmp_path: Path
) -> None:
    archives.write(tmp_path / "data")
    folders = DataDirs(tmp_path / "data", tmp_path / "cache")
    choices = ("none", "train", "train+val", "all", "one_turn")
    made = {which: prepare(folders, rotations=which, url=NOWHERE) for which in choices}
    plain, every = made["none"].splits, made["all"].splits
    turned = {"train": ["train"], "train+val": ["train", "val"]}
    for which, parts in turned.items():
        for split, pool in made[which].splits.items():
            assert pool.names == (every if split in parts else plain)[split].names
    for split, pool in made["one_turn"].splits.items():
        assert pool.one_turn and pool.names == every[split].names
        assert torch.equal(pool.inputs, every[split].inputs)
        assert pool.groups == every[split].groups == 4 * plain[split].groups
    assert not every["test"].one_turn
    assert len({each.digest for each in made.values()}) == len(choices)


def test_other_members_are_not_read(archives: Archives, tmp_path: Path) -> None:
    archives.members["images_background"] |= {
        "images_background/": b"",
        "__MACOSX/images_background/Greek/character01/0001_01.png": b"junk",
        f"../{TRAIN}/0001_01.png": b"junk",
        "images_background/Greek/character03/0003_01.png": b"junk",
        f"{TRAIN}/.DS_Store": b"junk",
    }
    archives.write(tmp_path / "data")
    made = prepare(DataDirs(tmp_path / "data", tmp_path / "cache"), rotations="none", url=NOWHERE)
    assert made.splits["train"].names == (TRAIN,)


def missing_member(made: Archives) -> None:
    del made.members["images_background"][f"{TRAIN}/0001_20.png"]


def missing_class(made: Archives) -> None:
    for name in [name for name in made.members["images_background"] if name.startswith(VAL)]:
        del made.members["images_background"][name]


def huge_member(made: Archives) -> None:
    made.members["images_background"][f"{TRAIN}/0001_01.png"] = bytes(1_000_000)


def not_a_png(made: Archives) -> None:
    made.members["images_background"][f"{TRAIN}/0001_01.png"] = b"GIF89a"


def truncated_png(made: Archives) -> None:
    made.members["images_background"][f"{TRAIN}/0001_01.png"] = made.members["images_background"][
        f"{TRAIN}/0001_01.png"
    ][:-100]


def grey_png(made: Archives) -> None:
    image = Image.new("L", (105, 105))
    made.members["images_background"][f"{TRAIN}/0001_01.png"] = png(image)


def large_png(made: Archives) -> None:
    image = Image.new("1", (1050, 105))
    made.members["images_background"][f"{TRAIN}/0001_01.png"] = png(image)


def other_images(made: Archives) -> None:
    made.members = Archives(seed=1).members


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing_member, f"19 drawings of {TRAIN} instead of 20"),
        (missing_class, f"0 drawings of {VAL} instead of 20"),
        (huge_member, "0001_01.png has 1000000 bytes"),
        (not_a_png, "damaged or not Omniglot"),
        (truncated_png, "damaged or not Omniglot"),
        (grey_png, "not a 1-bit image of 105 x 105"),
        (large_png, "not a 1-bit image of 105 x 105"),
        (other_images, "holds other images than the official ones"),
    ],
)
def test_a_wrong_archive_is_named(
    archives: Archives, tmp_path: Path, spoil: Callable[[Archives], None], message: str
) -> None:
    spoil(archives)
    archives.write(tmp_path / "data")
    with pytest.raises(UserError, match=message) as caught:
        prepare(DataDirs(tmp_path / "data", tmp_path / "cache"), rotations="none", url=NOWHERE)
    path = tmp_path / "data" / "omniglot" / "images_background.zip"
    assert str(caught.value).startswith(str(path))
    assert not list(tmp_path.rglob("*.pt"))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_damage_goes_unnoticed(archives: Archives, data: st.DataObject) -> None:
    good = archives.zipped("images_evaluation")
    at = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        content = good[:at]
    else:
        content = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    pin = omniglot.ARCHIVES["images_evaluation"]
    try:
        classes = images_in(io.BytesIO(content), [TEST], pin, "the file", "mend it")
    except UserError as mistake:
        assert str(mistake).startswith("the file ")
        assert str(mistake).endswith("; mend it")
    else:  # a byte that says nothing of the images, such as a time
        assert torch.equal(classes[TEST], archives.images[TEST])


def test_archives_are_downloaded_once_and_kept(
    archives: Archives, server: Server, tmp_path: Path
) -> None:
    for stem in CLASSES:
        server.bodies[f"/python/{stem}.zip"] = archives.zipped(stem)
    (tmp_path / "data").mkdir()
    folders = DataDirs(tmp_path / "data", tmp_path / "cache")
    made = prepare(folders, rotations="none", url=f"{server.url}/python/")
    assert torch.equal(made.splits["test"].inputs, archives.images[TEST])
    assert server.asked == [f"/python/{stem}.zip" for stem in CLASSES]
    assert not list((tmp_path / "data").iterdir())

    for stem in CLASSES:
        kept = tmp_path / "cache" / "omniglot" / f"{stem}.zip"
        assert kept.read_bytes() == archives.zipped(stem)
    next(tmp_path.rglob("*.pt")).unlink()
    assert prepare(folders, rotations="none", url=NOWHERE).digest == made.digest


@pytest.mark.parametrize("wrong", ["truncated", "other images", "not a zip", "missing", "silent"])
def test_a_failed_download_says_which_files_to_put_where(
    archives: Archives, server: Server, tmp_path: Path, wrong: str
) -> None:
    source = Archives(seed=1) if wrong == "other images" else archives
    url = NOWHERE if wrong == "silent" else server.url
    if wrong != "missing":
        for stem in CLASSES:
            server.bodies[f"/{stem}.zip"] = source.zipped(stem)
    if wrong == "not a zip":
        server.bodies["/images_background.zip"] = b"<html>log in first</html>"
    if wrong == "truncated":
        server.extra = 10
    with pytest.raises(UserError) as caught:
        prepare(DataDirs(tmp_path / "data", tmp_path / "cache"), rotations="none", url=url)
    assert f"{url}/images_background.zip" in str(caught.value)
    place = tmp_path / "data" / "omniglot"
    assert f"put images_background.zip and images_evaluation.zip into {place}" in str(caught.value)
    assert "dataset=glyphs" in str(caught.value)
    assert not list(tmp_path.rglob("*.zip"))
    assert not list(tmp_path.rglob("*.pt"))


def test_a_download_works_without_a_cache_to_write(
    archives: Archives, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for stem in CLASSES:
        server.bodies[f"/{stem}.zip"] = archives.zipped(stem)
    (tmp_path / "file").write_text("no folder can be made beneath this")
    folders = DataDirs(tmp_path / "data", tmp_path / "file" / "cache")
    made = prepare(folders, rotations="none", url=server.url)
    assert torch.equal(made.splits["test"].inputs, archives.images[TEST])
    assert "every run prepares it anew" in caplog.text


# the real archives


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def load_real(root: str, cache: str, rotations: str, **options: str) -> Dataset:
    return prepare(DataDirs.of(root, cache), rotations=rotations, url=NOWHERE, **options)


def test_the_official_data(
    omniglot_root: str, cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plain = load_real(omniglot_root, cache, rotations="none")
    assert plain.digest == "ebbc1e19146b0bdef1487cc407ac66f92b6799a302d3c5a23bf9cbff7f6ece6e"
    # 6 of them, each turned four times
    assert caplog.messages == ["train: 24 examples repeat one of their own class"]
    sizes = {split: len(pool.names) for split, pool in plain.splits.items()}
    assert sizes == {"train": 1028, "val": 172, "test": 423}
    for pool in plain.splits.values():
        assert pool.inputs.shape == (20 * len(pool.names), 1, 28, 28)
        assert pool.sizes.eq(20).all()
        assert 0.05 < pool.inputs.float().mean() / 255 < 0.2, "ink must be the rarer value"

    rotated = load_real(omniglot_root, cache, rotations="all")
    assert rotated.digest == "8723d95c55ef5ac93c30db2172483457e1c9109bf5abac4a7981f44575154e29"
    sizes = {split: len(pool.names) for split, pool in rotated.splits.items()}
    assert sizes == {"train": 4112, "val": 688, "test": 1692}


def test_the_pixels_of_an_official_drawing(omniglot_root: str, cache: str) -> None:
    pool = load_real(omniglot_root, cache, rotations="none").splits["test"]
    name = "images_evaluation/Tibetan/character07"
    with zipfile.ZipFile(Path(omniglot_root) / "omniglot" / "images_evaluation.zip") as archive:
        member = min(member for member in archive.namelist() if member.startswith(f"{name}/"))
        original = Image.open(io.BytesIO(archive.read(member)))
        expected = 255 - np.asarray(original.resize((28, 28)).convert("L"))
    first = int(pool.offsets[pool.names.index(name)])
    assert np.array_equal(pool.inputs[first, 0], expected)


def test_a_ready_cache_needs_no_archive(omniglot_root: str, cache: str, tmp_path: Path) -> None:
    load_real(omniglot_root, cache, rotations="none")
    load_real(str(tmp_path), cache, rotations="all")


def test_the_split_of_lake_divides_no_alphabet(omniglot_root: str, cache: str) -> None:
    dataset = load_real(omniglot_root, cache, rotations="none", split="lake")
    alphabets = {split: set(pool.groups) for split, pool in dataset.splits.items()}
    assert {split: len(of) for split, of in alphabets.items()} == {
        "train": 25,
        "val": 5,
        "test": 20,
    }
    assert sum(len(of) for of in alphabets.values()) == len(set.union(*alphabets.values()))
    assert all(name.startswith("images_evaluation/") for name in dataset.splits["test"].names)
    assert sum(len(pool.names) for pool in dataset.splits.values()) == 1623
    assert len(dataset.splits["test"].names) == 659 and dataset.name == "omniglot-lake"


@pytest.mark.parametrize("rotations", omniglot.LAKE_SHARED)
def test_one_drawing_is_in_two_alphabets_of_lake(
    omniglot_root: str, cache: str, rotations: str
) -> None:
    leaks.check_once(load_real(omniglot_root, cache, rotations=rotations, split="lake"))


def test_within_alphabets_an_episode_has_one(omniglot_root: str, cache: str) -> None:
    dataset = load_real(omniglot_root, cache, rotations="all", split="lake", within="group")
    source = episodes_of(dataset, "test", Setting(20, 1, 1), torch.device("cpu"), "test")
    groups = dataset.splits["test"].groups
    for row in source.classes(0, 40).tolist():
        assert len({groups[number] for number in row}) == 1
    assert dataset.name == "omniglot-lake-within"


def test_originals_are_the_drawings_turned_like_the_images(omniglot_root: str, cache: str) -> None:
    dataset = load_real(omniglot_root, cache, rotations="train")
    assert dataset.original is not None
    drawn = {split: len(pool.inputs) for split, pool in dataset.splits.items()}
    for split, index in (("train", 7), ("train", drawn["train"] // 4 + 7), ("train", drawn["train"] - 1),
                         ("test", 30)):  # fmt: skip
        whole = 255 - 255 * np.asarray(dataset.original(split, index).convert("1")).astype(np.uint8)
        assert whole.shape == (105, 105)
        image = dataset.splits[split].inputs[index, 0].numpy()
        # nearest neighbour takes the pixel right of the middle, which turns into the left one
        near = [whole[np.ix_(m, n)] for m in (omniglot.MIDDLES, 104 - omniglot.MIDDLES[::-1])
                for n in (omniglot.MIDDLES, 104 - omniglot.MIDDLES[::-1])]  # fmt: skip
        assert any(np.array_equal(each, image) for each in near)


def test_originals_need_the_archive(omniglot_root: str, cache: str, tmp_path: Path) -> None:
    dataset = load_real(str(tmp_path), cache, rotations="none")
    assert dataset.original is not None
    with pytest.raises(UserError, match="put images_background.zip into"):
        dataset.original("train", 0)
