"""CIFAR-FS and FC100, which are made of the archive of CIFAR-100."""

import gzip
import io
import logging
import os
import pickle
import re
import tarfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core.errors import UserError
from bench.datasets.images import cifar100, cifar_fs, fc100
from bench.datasets.images.cifar100 import images_in, split_names, table
from bench.datasets.io.cache import DataDirs
from bench.tasks import leaks
from bench.tasks.pool import Dataset, Pool, content_digest
from tests.bench.datasets.fakes import Cifar, Server, entry, packed, python2, python3
from tools.campaigns.coverage import GROUPS

NOWHERE = "http://127.0.0.1:9/cifar-100-python.tar.gz"
TRAIN, TEST, META = (f"cifar-100-python/{stem}" for stem in ("train", "test", "meta"))
SPLITS = {
    cifar_fs: {"train": ("ant", "bat"), "val": ("cow",), "test": ("dog",)},
    fc100: {"train": ("bat", "cow"), "val": ("ant",), "test": ("dog",)},
}


def folders_of(tmp_path: Path) -> DataDirs:
    return DataDirs(tmp_path / "data", tmp_path / "cache")


def test_the_splits_are_those_of_the_papers() -> None:
    sizes = {name: [len(of) for of in split_names(name).values()] for name in ("cifar_fs", "fc100")}
    assert sizes == {"cifar_fs": [64, 16, 20], "fc100": [60, 20, 20]}
    assert len({row["class"] for row in table()}) == 100
    assert set(Counter(row["superclass"] for row in table()).values()) == {5}
    # spot checks against the lists of the authors
    assert split_names("cifar_fs")["val"][:4] == ["beaver", "beetle", "butterfly", "camel"]
    assert {"baby", "rocket", "sweet_pepper", "worm"} <= set(split_names("cifar_fs")["test"])
    assert {"bear", "lobster", "squirrel", "tiger"} <= set(split_names("fc100")["val"])
    assert {"boy", "bee", "whale", "raccoon"} <= set(split_names("fc100")["test"])


@pytest.mark.parametrize("module", SPLITS)
def test_groups_are_superclasses(module: ModuleType, cifar: Cifar, tmp_path: Path) -> None:
    cifar.write(tmp_path / "data")
    superclasses = {row["class"]: row["superclass"] for row in table()}
    for pool in module.prepare(folders_of(tmp_path), url=NOWHERE).splits.values():
        assert pool.groups == tuple(superclasses[each] for each in pool.names)


@pytest.mark.parametrize("name", ["cifar_fs", "fc100"])
def test_test_classes_are_of_so_many_superclasses(name: str) -> None:
    sizes = Counter(row["superclass"] for row in table() if row[name] == "test").values()
    assert sorted(sizes) == sorted(GROUPS[name])


def test_no_superclass_is_in_two_splits_of_fc100() -> None:
    places = {(row["superclass"], row["fc100"]) for row in table()}
    assert Counter(split for _, split in places) == {"train": 12, "val": 4, "test": 4}
    # as opposed to CIFAR-FS
    split = Counter(name for name, _ in {(row["superclass"], row["cifar_fs"]) for row in table()})
    assert sum(count > 1 for count in split.values()) == 17


@pytest.mark.parametrize("module", SPLITS)
@pytest.mark.parametrize("write", [python2, python3])
def test_images_come_by_class_and_file_name_however_they_are_packed(
    cifar: Cifar, tmp_path: Path, module: ModuleType, write: Callable[[object], bytes]
) -> None:
    cifar.write(tmp_path / "data", packed(cifar.members(write)))
    made = module.prepare(folders_of(tmp_path), url=NOWHERE)
    assert made.name == module.__name__.rsplit(".", 1)[1]
    for split, names in SPLITS[module].items():
        pool = made.splits[split]
        assert pool.names == names
        assert pool.inputs.shape == (6 * len(names), 3, 32, 32)
        assert torch.equal(pool.inputs, torch.cat([cifar.images[name] for name in names]))


def test_arrays_by_column_are_the_same_images(cifar: Cifar) -> None:
    for stem in ("train", "test"):
        cifar.tables[stem]["data"] = np.asfortranarray(cifar.tables[stem]["data"])
    images = images_in(io.BytesIO(packed(cifar.members())), "the file", "mend it")
    assert all(torch.equal(images[name], cifar.images[name]) for name in cifar.images)


@pytest.mark.parametrize("module", SPLITS)
def test_images_that_the_official_data_has_twice_are_known(
    cifar: Cifar, tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar.write(tmp_path / "data")
    made = module.prepare(folders_of(tmp_path), url=NOWHERE)
    again = module.prepare(folders_of(tmp_path), url=NOWHERE)
    assert made.expected_duplicates == again.expected_duplicates == 1
    leaks.check_once(again)
    monkeypatch.setattr(module, "SHARED", 0)
    with pytest.raises(ValueError, match="1 examples are in more than one split, expected 0"):
        module.prepare(DataDirs(tmp_path / "data", tmp_path / "other"), url=NOWHERE)


def test_another_split_is_not_taken_from_the_cache(cifar: Cifar, tmp_path: Path) -> None:
    cifar.write(tmp_path / "data")
    first = cifar_fs.prepare(folders_of(tmp_path), url=NOWHERE)
    cifar100.TABLE.write_text(
        cifar100.TABLE.read_text().replace("dog mammals test", "dog mammals val")
    )
    cifar100.TABLE.write_text(
        cifar100.TABLE.read_text().replace("cow mammals val", "cow mammals test")
    )
    again = cifar_fs.prepare(folders_of(tmp_path), url=NOWHERE)
    assert first.splits["test"].names == again.splits["val"].names == ("dog",)


def test_other_members_are_passed_over(cifar: Cifar, tmp_path: Path) -> None:
    more = {
        "cifar-100-python/file.txt~": b"",
        f"../{TRAIN}": b"junk",
        f"/{TRAIN}": b"junk",
        "cifar-100-python/._train": b"junk" * 200,
    }
    content = packed(more | cifar.members(), (entry("up", 0, type=tarfile.SYMTYPE), b""))
    before = {*tmp_path.rglob("*"), *Path.cwd().glob("*")}
    cifar.write(tmp_path / "data", content)
    made = cifar_fs.prepare(folders_of(tmp_path), url=NOWHERE)
    assert made.splits["test"].names == ("dog",)
    new = {path.name for path in {*tmp_path.rglob("*"), *Path.cwd().glob("*")} - before}
    kept = re.compile(
        r"data|cache|cifar100|cifar-100-python.tar.gz|prepared|cifar_fs-\w+.(pt|lock)"
    )
    assert all(kept.fullmatch(name) for name in new), "nothing is extracted"


def rows_of(made: Cifar, key: str) -> list[object]:
    rows = made.tables["train"][key]
    assert isinstance(rows, list)
    return rows


def no_member(made: Cifar) -> bytes:
    del made.tables["test"]
    return packed(made.members())


def no_key(made: Cifar) -> bytes:
    del made.tables["train"]["filenames"]
    return packed(made.members())


def no_table(made: Cifar) -> bytes:
    return packed(made.members() | {TRAIN: pickle.dumps([1, 2], 2)})


def other_classes(made: Cifar) -> bytes:
    made.tables["meta"]["fine_label_names"] = ["dog", "ant", "cow", "bee"]
    return packed(made.members())


def a_row_less(made: Cifar) -> bytes:
    rows_of(made, "filenames").pop()
    return packed(made.members())


def no_class(made: Cifar) -> bytes:
    rows_of(made, "fine_labels")[0] = 4
    return packed(made.members())


def negative_label(made: Cifar) -> bytes:
    rows_of(made, "fine_labels")[0] = -1
    return packed(made.members())


def text_as_label(made: Cifar) -> bytes:
    rows_of(made, "fine_labels")[0] = "1"
    return packed(made.members())


def another_class(made: Cifar) -> bytes:
    labels = rows_of(made, "fine_labels")
    labels[labels.index(1)] = 0
    return packed(made.members())


def other_shape(made: Cifar) -> bytes:
    data = made.tables["train"]["data"]
    assert isinstance(data, np.ndarray)
    made.tables["train"]["data"] = data.reshape(-1, 32)
    return packed(made.members())


def fewer_images(made: Cifar) -> bytes:
    data = made.tables["train"]["data"]
    assert isinstance(data, np.ndarray)
    made.tables["train"]["data"] = data[:-1]
    return packed(made.members())


def other_numbers(made: Cifar) -> bytes:
    data = made.tables["train"]["data"]
    assert isinstance(data, np.ndarray)
    made.tables["train"]["data"] = data.astype(np.float64)[:, :300]
    return packed(made.members())


def other_images(made: Cifar) -> bytes:
    return packed(Cifar(seed=1).members())


def swapped_files(made: Cifar) -> bytes:
    files, labels = rows_of(made, "filenames"), rows_of(made, "fine_labels")
    one, other = (at for at, label in enumerate(labels) if label == 2 and at in ants(labels, 2)[:2])
    files[one], files[other] = files[other], files[one]
    return packed(made.members())


def ants(labels: list[object], label: int) -> list[int]:
    return [at for at, each in enumerate(labels) if each == label]


def twice(made: Cifar) -> bytes:
    members = made.members()
    return packed(members, (entry(META, len(members[META])), members[META]))


def link(made: Cifar) -> bytes:
    members = made.members()
    del members[TRAIN]
    return packed(members, (entry(TRAIN, 0, type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""))


def announces_much(made: Cifar) -> bytes:
    return packed({}, (entry(TRAIN, 2**40), b""))


def announces_less_than_nothing(made: Cifar) -> bytes:
    return packed(made.members(), (entry("other", -512), b""))


def other_announces_much(made: Cifar) -> bytes:
    return packed(made.members(), (entry("other", 2**40), b""))


def many_others(made: Cifar) -> bytes:
    return packed({f"other{n}": b"x" for n in range(1000)} | made.members())


def long_name(made: Cifar) -> bytes:
    # tarfile by itself takes in as long a name as is announced
    return packed({}, (entry("././@LongLink", 2**33, type=tarfile.GNUTYPE_LONGNAME), b""))


def bomb(made: Cifar) -> bytes:
    return packed({TRAIN: bytes(30_000_000)})


def no_tar(made: Cifar) -> bytes:
    return gzip.compress(b"x" * 10_000)


def no_end(made: Cifar) -> bytes:
    return gzip.compress(gzip.decompress(packed(made.members()))[: -2 * tarfile.BLOCKSIZE])


def truncated(made: Cifar) -> bytes:
    return packed(made.members())[:-1000]


def not_gzip(made: Cifar) -> bytes:
    return b"<html>log in first</html>"


class Shell:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.system, ("touch hacked",)


def hostile(made: Cifar) -> bytes:
    return packed(made.members() | {TRAIN: pickle.dumps(Shell(), 2)})


def hostile_name(made: Cifar) -> bytes:
    return packed({TRAIN: b"\x80\x02ca\x1b[2J\nb\n."})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_member, "has no member test"),
        (no_key, "its filenames are not a list of str"),
        (no_table, "its fine_labels are not a list of int"),
        (other_classes, "classes are not those of CIFAR-100"),
        (a_row_less, "train has 20 labels and 19 names of 20"),
        (no_class, "train has labels of no class"),
        (negative_label, "train has labels of no class"),
        (text_as_label, "its fine_labels are not a list of int"),
        (another_class, "images of dog instead of 6|images of ant instead of 6"),
        (other_shape, "data are not 20 images of 3 x 32 x 32"),
        (fewer_images, "data are not 20 images of 3 x 32 x 32"),
        (other_numbers, "something else than arrays of whole numbers"),
        (other_images, "holds other images than the official ones"),
        (swapped_files, "holds other images than the official ones"),
        (twice, "member cifar-100-python/meta is there twice"),
        (link, "member cifar-100-python/train is there twice or is no plain file"),
        (announces_much, "has 1099511627776 bytes, 104000 are possible"),
        (announces_less_than_nothing, "has -512 bytes"),
        (other_announces_much, "member other has 1099511627776 bytes"),
        (many_others, "member other977 has 1 bytes, 0 are possible"),
        (long_name, "LongLink has 8589934592 bytes"),
        (bomb, "has 30000000 bytes, 104000 are possible"),
        (no_tar, "damaged or not CIFAR-100"),
        (no_end, "ends too early"),
        (truncated, "damaged or not CIFAR-100"),
        (not_gzip, "damaged or not CIFAR-100"),
        (hostile, "asks for posix.system, which is not data"),
        (hostile_name, r"asks for a\\x1b\[2J.b, which"),
    ],
)
def test_a_wrong_archive_is_named_and_takes_little_memory(
    cifar: Cifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Cifar], bytes], message: str,
) -> None:  # fmt: skip
    path = cifar.write(tmp_path / "data", spoil(cifar))
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message) as caught:
            cifar_fs.prepare(folders_of(tmp_path), url=NOWHERE)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path} ")
    assert str(caught.value).endswith(
        "put the official file there, or delete it to have it downloaded"
    )
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500 + len(str(path))
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("hacked"))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_damage_goes_unnoticed(cifar: Cifar, data: st.DataObject) -> None:
    good = packed(cifar.members())
    kind = data.draw(st.sampled_from(["cut", "archive", "inner"]))
    if kind == "inner":  # past the checksum of gzip
        good = gzip.decompress(good)
    at = data.draw(st.integers(0, len(good) - 1))
    if kind == "cut":
        content = good[:at]
    else:
        content = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    if kind == "inner":
        content = gzip.compress(content, 1)
    try:
        images = images_in(io.BytesIO(content), "the file", "mend it")
    except UserError as mistake:
        assert str(mistake).startswith("the file ")
        assert str(mistake).endswith("; mend it")
    else:  # a byte that says nothing of the images, such as a time
        assert all(torch.equal(images[name], cifar.images[name]) for name in cifar.images)


def test_an_archive_is_downloaded_once_and_kept(
    cifar: Cifar, server: Server, tmp_path: Path
) -> None:
    address = "/~kriz/cifar-100-python.tar.gz"
    server.bodies[address] = packed(cifar.members())
    (tmp_path / "data").mkdir()
    folders = folders_of(tmp_path)
    made = cifar_fs.prepare(folders, url=server.url + address)
    assert torch.equal(made.splits["test"].inputs, cifar.images["dog"])
    assert not list((tmp_path / "data").iterdir())
    kept = tmp_path / "cache" / "cifar100" / "cifar-100-python.tar.gz"
    assert kept.read_bytes() == server.bodies[address]
    # the other data set needs no second one
    assert fc100.prepare(folders, url=NOWHERE).splits["val"].names == ("ant",)
    assert server.asked == [address]


@pytest.mark.parametrize("wrong", ["truncated", "other images", "not a tar", "missing", "silent"])
def test_a_failed_download_says_which_file_to_put_where(
    cifar: Cifar, server: Server, tmp_path: Path, wrong: str
) -> None:
    url = NOWHERE if wrong == "silent" else f"{server.url}/cifar.tar.gz"
    if wrong != "missing":
        source = Cifar(seed=1) if wrong == "other images" else cifar
        server.bodies["/cifar.tar.gz"] = packed(source.members())
    if wrong == "not a tar":
        server.bodies["/cifar.tar.gz"] = b"<html>log in first</html>"
    if wrong == "truncated":
        server.extra = 10
    with pytest.raises(UserError) as caught:
        fc100.prepare(folders_of(tmp_path), url=url)
    assert url in str(caught.value)
    place = tmp_path / "data" / "cifar100"
    assert f"put cifar-100-python.tar.gz into {place}" in str(caught.value)
    assert "dataset=glyphs" in str(caught.value)
    assert not list(tmp_path.rglob("*.tar.gz")) and not list(tmp_path.rglob("*.pt"))


def test_an_archive_that_cannot_be_read_is_a_mistake(cifar: Cifar, tmp_path: Path) -> None:
    path = tmp_path / "data" / "cifar100" / "cifar-100-python.tar.gz"
    path.mkdir(parents=True)
    with pytest.raises(UserError, match=f"Cannot read {path} .*; make it readable"):
        cifar_fs.prepare(folders_of(tmp_path), url=NOWHERE)


# the real archive


@pytest.fixture(scope="module")
def real(cifar_root: str) -> dict[str, object]:
    """What the official archive holds, and how long it took to read."""
    path = Path(cifar_root) / "cifar100" / "cifar-100-python.tar.gz"
    start = time.process_time()
    with path.open("rb") as file:
        members = cifar100.read_members(file)
    coarse = members["meta"]["coarse_label_names"]
    fine = members["meta"]["fine_label_names"]
    pairs = {
        (fine[a], coarse[b])
        for stem in ("train", "test")
        for a, b in zip(members[stem]["fine_labels"], members[stem]["coarse_labels"], strict=True)
    }
    images = cifar100.arrange(members)
    return {"pairs": pairs, "images": images, "seconds": time.process_time() - start}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def load(
    real: dict[str, object], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[ModuleType], Dataset]:
    """A real data set, from the archive as it was read once."""
    monkeypatch.setattr(cifar100, "from_archive", lambda *_: real["images"])
    return lambda module: module.prepare(DataDirs(cache, cache), url=NOWHERE)


def test_the_official_archive_is_read_in_seconds(real: dict[str, object]) -> None:
    assert content_digest({"all": Pool.of(real["images"])}) == cifar100.DIGEST  # type: ignore[arg-type]
    assert real["seconds"] < 20, "5 s of a processor"  # type: ignore[operator]


def test_superclasses_are_those_of_the_official_archive(real: dict[str, object]) -> None:
    assert real["pairs"] == {(row["class"], row["superclass"]) for row in table()}


@pytest.mark.parametrize(
    ("module", "sizes", "digest"),
    [
        (
            cifar_fs,
            {"train": 64, "val": 16, "test": 20},
            "bd8993ae4537a082cbbb2d8ef5c0ac75165489c09a54520cfa4b0a0efc601a5e",
        ),
        (
            fc100,
            {"train": 60, "val": 20, "test": 20},
            "3e1a5839d3a853c254f34d8a5ad76071ff18b07620b8d2769d74140e8397bfc3",
        ),
    ],
)
def test_the_official_data(
    load: Callable[[ModuleType], Dataset],
    module: ModuleType,
    sizes: dict[str, int],
    digest: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    made = load(module)  # which looks for images in two splits
    repeats = [
        int(re.sub(r"\w+: (\d+) examples repeat.*", r"\1", text)) for text in caplog.messages
    ]
    assert sum(repeats) == 9
    assert made.digest == digest
    assert {split: len(pool.names) for split, pool in made.splits.items()} == sizes
    for pool in made.splits.values():
        assert pool.inputs.shape == (600 * len(pool.names), 3, 32, 32)
        assert pool.sizes.eq(600).all()
        red, green, blue = pool.inputs.float().mean((0, 2, 3)).tolist()
        assert 140 > red > green > blue > 100, "photographs are warm on average"


def test_a_ready_cache_loads_quickly(load: Callable[[ModuleType], Dataset]) -> None:
    load(cifar_fs)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        leaks.check(load(cifar_fs).splits, cifar_fs.SHARED)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 3, "0.8 s of a processor"
