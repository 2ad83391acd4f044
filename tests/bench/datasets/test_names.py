"""Names of things in many languages, as Babel has them."""

import time
from pathlib import Path

import pytest

from bench.datasets.io.cache import DataDirs
from bench.datasets.texts import names
from bench.tasks import leaks
from bench.tasks.pool import Dataset
from bench.tasks.texts import normalized, to_text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, float]:
    """The data set, and how long it took to make."""
    folder = tmp_path_factory.mktemp("names")
    start = time.process_time()
    dataset = names.prepare(DataDirs(folder, folder))
    return dataset, time.process_time() - start


def test_the_names_are_those_of_the_reference_results(made: tuple[Dataset, float]) -> None:
    dataset, seconds = made
    assert dataset.digest == names.DIGEST
    assert seconds < 10, "6 s of a processor"
    sizes = [int(size) for pool in dataset.splits.values() for size in pool.sizes]
    assert (len(sizes), sum(sizes), min(sizes), max(sizes)) == (1408, 128_987, 20, 224)
    assert dataset.has_texts and dataset.examples == "texts"
    leaks.check(dataset.splits)


def test_no_name_is_twice(made: tuple[Dataset, float]) -> None:
    dataset, _ = made
    every = [normalized(to_text(row)) for pool in dataset.splits.values() for row in pool.inputs]
    assert len(set(every)) == len(every)


def test_what_belongs_together_is_in_one_split(made: tuple[Dataset, float]) -> None:
    dataset, _ = made
    splits = {name: split for split, pool in dataset.splits.items() for name in pool.names}
    for group in (
        ("territory/DE", "language/de", "currency/DEM", "language/nds"),
        ("territory/AL", "language/sq", "currency/ALL", "script/Elba"),
    ):
        assert {names.group_of(each) for each in group} == {group[0][-2:]}
        assert len({splits[each] for each in group if each in splits}) == 1
    places = {(group, split) for split, p in dataset.splits.items() for group in p.groups}
    assert len(places) == len({group for group, _ in places}) > 300
    assert names.group_of("language/en_GB") == "GB" and names.group_of("language/zh_Hans") == "CN"
    assert names.group_of("script/Latn") == "script/Latn" and names.group_of("language/vo") == "001"


def test_another_babel_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(names, "names_of_things", few)
    names.prepare(DataDirs(tmp_path, tmp_path))
    assert "has other names than Babel 2.19" in caplog.text


def few() -> dict[str, list[str]]:
    return {f"territory/{n}": [f"{n} {each}" for each in range(20)] for n in range(100, 160)}
