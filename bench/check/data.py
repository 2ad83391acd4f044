"""Laws of every data set. A law is a function of a `Prepared` that raises AssertionError."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from algorithms.learner import Setting
from bench.check.elsewhere import elsewhere
from bench.check.laws import NotApplicableError, require
from bench.config.schema import Component, Config
from bench.core.errors import UserError
from bench.datasets.io.cache import DataDirs
from bench.runs.store import NAME
from bench.tasks import leaks
from bench.tasks.episodes import episodes_of
from bench.tasks.pool import Dataset, content_digest


class Prepared(NamedTuple):
    """A data set that was just prepared, and all that is needed to prepare it again.

    ``folders`` has a cache of its own, ``other`` an empty one.
    """

    dataset: Dataset
    config: Config
    folders: DataDirs
    other: DataDirs


Law = Callable[[Prepared], None]


@contextmanager
def folders_for(config: Config) -> Iterator[tuple[DataDirs, DataDirs]]:
    """Yield the folders of a configuration twice, each with an empty temporary cache."""
    with TemporaryDirectory(prefix="bench-check-") as folder:
        users = DataDirs.of(config.data_root, config.cache_dir)
        one, other = (replace(users, cache=Path(folder) / name) for name in ("one", "other"))
        yield one, other


def prepared(config: Config, folders: DataDirs, other: DataDirs) -> Prepared:
    """Prepare the data set of a configuration; its exceptions are passed on."""
    return Prepared(prepare(config.dataset, folders), config, folders, other)


def prepare(code: Component, folders: DataDirs) -> Dataset:
    """Return the data set of a component; raise UserError."""
    result: Dataset = code.resolve()(folders, **code.options)
    return result


def digests(code: Component, folders: DataDirs) -> tuple[str, str]:
    """Return the digest that a data set claims and the digest of its actual content."""
    dataset = prepare(code, folders)
    return dataset.digest, content_digest(dataset.splits)


def can_be_prepared(given: Prepared) -> None:
    """It can be prepared."""
    found = type(given.dataset)
    require(issubclass(found, Dataset), f"its code gives a {found.__name__}, not a Dataset")


def nothing_leaks(given: Prepared) -> None:
    """Its splits are train, val and test, are alike, and share no class and no example."""
    try:
        leaks.check(given.dataset.splits, given.dataset.expected_duplicates)
    except ValueError as error:
        raise AssertionError(str(error)) from None


def its_texts_are_utf8(given: Prepared) -> None:
    """Its texts are UTF-8, with zeros behind their ends alone."""
    if not given.dataset.has_texts:
        raise NotApplicableError("it has none")
    for split, pool in given.dataset.splits.items():
        for number, row in enumerate(pool.inputs):
            text = row.numpy().tobytes().rstrip(b"\0")
            where = f"in {split}, text {number}"
            require(b"\0" not in text, f"{where} has a zero")
            require(text.decode(errors="ignore").encode() == text, f"{where} is no UTF-8")


def its_name_can_be_a_file(given: Prepared) -> None:
    """Its name can be that of a folder: letters, digits and the signs . + - _."""
    name = given.dataset.name
    require(re.fullmatch(NAME, name) is not None, f"it is {name!r}")


def episodes_can_be_drawn(given: Prepared) -> None:
    """Each split has episodes of the ways, shots and queries of the test; all or the test alone."""
    setting = Setting(given.config.ways, given.config.shots, given.config.queries)
    splits = given.dataset.splits
    for split in ("train", "val", "test") if splits["train"].names else ("test",):
        try:
            episodes_of(given.dataset, split, setting, torch.device("cpu"), "check").draw(0, 2)
        except UserError as mistake:
            raise AssertionError(f"in {split}, {mistake}") from None


def the_digest_is_of_the_content(given: Prepared) -> None:
    """Its digest is that of examples, class names and splits, as `Dataset.of` works it out."""
    digest = given.dataset.digest
    require(re.fullmatch("[0-9a-f]{64}", digest) is not None, f"{digest!r} is not a SHA-256 digest")
    if digest != content_digest(given.dataset.splits):
        raise NotApplicableError("it is another one, as of data that is derived by a rule")


def prepared_elsewhere_it_is_the_same(given: Prepared) -> None:
    """Another process, with another hash seed and nothing in its cache, prepares the same."""
    require_the_same(given.dataset, *elsewhere(digests, given.config.dataset, given.other))


def prepared_again_it_is_the_same(given: Prepared) -> None:
    """Prepared again, from the cache if it uses that, it is the same."""
    require_the_same(given.dataset, *digests(given.config.dataset, given.folders))


def require_the_same(dataset: Dataset, digest: str, content: str) -> None:
    """Raise AssertionError if another preparation gave a different result."""
    require(content == content_digest(dataset.splits), "examples, class names or splits are others")
    require(digest == dataset.digest, "the content is the same, and its digest is another")


LAWS: tuple[Law, ...] = (
    nothing_leaks,
    its_texts_are_utf8,
    its_name_can_be_a_file,
    episodes_can_be_drawn,
    the_digest_is_of_the_content,
    prepared_elsewhere_it_is_the_same,
    prepared_again_it_is_the_same,
)
