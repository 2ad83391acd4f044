"""Text data sets as published, from their official files."""

import io
import logging
import random
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import ModuleType

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from bench.config import schema
from bench.core.errors import UserError
from bench.datasets.io import published
from bench.datasets.io.cache import DataDirs
from bench.datasets.io.published import read_table, split_names
from bench.datasets.texts import banking77, clinc150, huffpost, reuters
from bench.tasks import leaks
from bench.tasks.pool import Dataset
from bench.tasks.texts import to_text
from tests.bench.datasets.fakes import Server

NOWHERE = "http://127.0.0.1:9"
FOLDS = [(module, fold) for module in (clinc150, banking77) for fold in module.SHARED]
FOLDS += [(huffpost, "split"), (reuters, "split")]
SIZES = {
    clinc150: [50, 50, 50],
    banking77: [25, 25, 27],
    huffpost: [20, 5, 16],
    reuters: [15, 5, 11],
}
NAMES = {module: module.__name__.rpartition(".")[2] for module in SIZES}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def load(texts_root: str, cache: Path) -> Callable[..., Dataset]:
    """A real data set."""
    folders = DataDirs(Path(texts_root), cache)
    return lambda module, **options: module.prepare(folders, url=NOWHERE, **options)


def texts_of(dataset: Dataset, split: str, name: str) -> list[str]:
    pool = dataset.splits[split]
    number = pool.names.index(name)
    first, end = pool.offsets[number : number + 2].tolist()
    return [to_text(row) for row in pool.inputs[first:end]]


@pytest.mark.parametrize(("module", "fold"), FOLDS)
def test_folds_have_all_classes_once(module: ModuleType, fold: str) -> None:
    names = split_names(module.TABLE, fold)
    sizes = [75, 30, 45] if fold == "domains" else SIZES[module]
    assert [len(of) for of in names.values()] == sizes
    every = [row["class"] for row in read_table(module.TABLE)]
    assert sorted(chain(*names.values())) == sorted(every)
    assert len(set(every)) == len(every)


def test_the_domains_of_a_harder_split_are_apart() -> None:
    rows = read_table(clinc150.TABLE)
    found = {
        split: {r["domain"] for r in rows if r["domains"] == split} for split in ("val", "test")
    }
    assert found["test"] == {"banking", "credit_cards", "work"} and len(found["val"]) == 2
    assert len({(row["domain"], row["domains"]) for row in rows}) == 10


DIGESTS = {
    (clinc150, "01"): "1374eb0c8e05808c",
    (clinc150, "02"): "59e8283be177733b",
    (clinc150, "03"): "515f2d33de26cd88",
    (clinc150, "04"): "31ed64c39b35f111",
    (clinc150, "05"): "d88149e3e9195201",
    (clinc150, "domains"): "c10dac7ecccd46b1",
    (banking77, "01"): "753aa817ea3c9239",
    (banking77, "02"): "b15e2b288181246d",
    (banking77, "03"): "4c3fa01e36864b05",
    (banking77, "04"): "2928cad59c76e97c",
    (banking77, "05"): "c0da574dc7982dd1",
    (huffpost, None): "20f3f5bc9e963a66",
    (reuters, None): "ec0f5889a7890ac7",
}
REPEATS = {clinc150: 63, banking77: 58, huffpost: 194, reuters: 2}


@pytest.mark.parametrize(("module", "fold"), DIGESTS)
def test_the_official_data(
    load: Callable[..., Dataset],
    module: ModuleType,
    fold: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    options = {"fold": fold} if fold else {}
    dataset = load(module, **options)  # which looks for texts in two splits
    repeats = [int(found[1]) for text in caplog.messages if (found := re.search(r"(\d+) ex", text))]
    assert sum(repeats) == REPEATS[module]
    assert dataset.name == NAMES[module] + (f"-{fold}" if fold not in (None, "01") else "")
    assert dataset.digest.startswith(DIGESTS[module, fold])
    assert dataset.has_texts and dataset.examples == "texts"
    again = load(module, **options)
    assert again.digest == dataset.digest
    assert again.expected_duplicates == (module.SHARED[fold] if fold else 0)
    leaks.check(again.splits, again.expected_duplicates)
    with pytest.raises(ValueError, match="are in more than one split, expected 9"):
        leaks.check(again.splits, 9)


def test_texts_are_those_of_the_files(load: Callable[..., Dataset]) -> None:
    intents, bank = load(clinc150), load(banking77)
    assert {int(size) for pool in intents.splits.values() for size in pool.sizes} == {150}
    assert texts_of(intents, "test", "alarm")[0] == "wake me up at noon tomorrow"
    sizes = [int(size) for pool in bank.splits.values() for size in pool.sizes]
    assert (sum(sizes), min(sizes), max(sizes)) == (13_083, 75, 227)
    assert texts_of(bank, "test", "card_arrival")[0] == "I am still waiting on my card?"
    assert bank.splits["val"].inputs.shape[1] == 433
    for module, split, name, start in (
        (huffpost, "test", "RELIGION", "southern baptist leader"),
        (reuters, "train", "cocoa", "COCOA EXPORTERS EXPECTED"),
    ):
        assert texts_of(load(module), split, name)[0].startswith(start)
    assert {int(size) for pool in load(huffpost).splits.values() for size in pool.sizes} == {900}
    assert {int(size) for pool in load(reuters).splits.values() for size in pool.sizes} == {20}


def test_intents_are_grouped_by_domain(load: Callable[..., Dataset]) -> None:
    pool = load(clinc150).splits["test"]
    groups = dict(zip(pool.names, pool.groups, strict=True))
    assert groups["alarm"] == "utility" and groups["credit_limit"] == "credit_cards"
    assert not load(banking77).splits["test"].groups


@pytest.mark.parametrize("module", SIZES)
def test_a_damaged_file_is_told(
    module: ModuleType, texts_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text" / NAMES[module]).mkdir(parents=True)
    name = next(iter(module.FILES))
    content = (Path(texts_root) / "text" / NAMES[module] / name).read_bytes()
    path = tmp_path / "text" / NAMES[module] / name
    path.write_bytes(content.replace(b"a", b"b", 1))
    with pytest.raises(UserError, match="is another file than the official one .*; put the offic"):
        module.prepare(DataDirs(tmp_path, tmp_path), url=NOWHERE)
    path.write_bytes(content)
    monkeypatch.setattr(published, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match=f"{path} is another file"):
        module.prepare(DataDirs(tmp_path, tmp_path), url=NOWHERE)


@pytest.mark.slow
@pytest.mark.parametrize("module", SIZES)
def test_no_damage_goes_unnoticed(module: ModuleType, texts_root: str) -> None:
    draw = random.Random(0)
    name, sha256 = next(iter(module.FILES.items()))
    content = (Path(texts_root) / "text" / NAMES[module] / name).read_bytes()
    parts = [content[: draw.randrange(1, 5000)] for _ in range(10)]
    for _ in range(10_000):
        part = draw.choice(parts)
        at = draw.randrange(len(part))
        mutated = part[:at] + draw.randbytes(draw.randrange(20)) + part[at + draw.randrange(20) :]
        with pytest.raises(UserError, match="it is another file than the official one .*; mend it"):
            published.checked(sha256, io.BytesIO(mutated), "it", "mend it")
    assert published.checked(sha256, io.BytesIO(content), "it", "mend it") == content


def test_files_are_downloaded_once_and_kept(
    texts_root: str, server: Server, tmp_path: Path
) -> None:
    for name in banking77.FILES:
        file = Path(texts_root) / "text" / "banking77" / name
        server.bodies[f"/banking_data/{name}"] = file.read_bytes()
    folders = DataDirs(tmp_path / "data", tmp_path / "cache")
    first = banking77.prepare(folders, url=f"{server.url}/banking_data/")
    assert banking77.prepare(folders, url=NOWHERE, fold="02").digest != first.digest
    assert server.asked == ["/banking_data/train.csv", "/banking_data/test.csv"]


def test_a_failed_download_says_which_file_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        banking77.prepare(DataDirs(tmp_path, tmp_path), url=NOWHERE)
    place = tmp_path / "text" / "banking77"
    assert f"Cannot download {NOWHERE}/train.csv" in str(caught.value)
    assert f"put train.csv and test.csv into {place} yourself" in str(caught.value)
    assert "use dataset=names, which needs no download" in str(caught.value)


def test_folds_are_given_as_digits() -> None:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(Path(__file__).parents[3] / "conf"), version_base="1.3"):
        chosen = hydra.compose("config", ["dataset=clinc150", "dataset.fold=02"])
    assert schema.from_hydra(chosen).dataset.options["fold"] == "02"
