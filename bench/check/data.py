"""What every data set owes. A law is a function of a `Prepared` that raises AssertionError."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from algorithms.learner import Shape
from bench.check.elsewhere import elsewhere
from bench.check.laws import Skipped, require
from bench.config import Code, Config
from bench.data import guard
from bench.data.cache import Folders
from bench.data.episodes import EpisodeSampler
from bench.data.pool import Dataset, content_digest
from bench.mistake import Mistake
from bench.store import NAME


class Prepared(NamedTuple):
    """A data set that was just prepared, and how: all that is needed to do so again.

    ``folders`` has a cache of its own, ``other`` an empty one.
    """

    dataset: Dataset
    config: Config
    folders: Folders
    other: Folders


Law = Callable[[Prepared], None]


@contextmanager
def folders_for(config: Config) -> Iterator[tuple[Folders, Folders]]:
    """The folders of a configuration, twice, with empty caches that are gone afterwards."""
    with TemporaryDirectory(prefix="bench-check-") as folder:
        users = Folders.of(config.data_root, config.cache_dir)
        one, other = (replace(users, cache=Path(folder) / name) for name in ("one", "other"))
        yield one, other


def prepared(config: Config, folders: Folders, other: Folders) -> Prepared:
    """The data set of a configuration; raises what that raises."""
    return Prepared(prepare(config.dataset, folders), config, folders, other)


def prepare(code: Code, folders: Folders) -> Dataset:
    """The data set of some code and its options; raises Mistake."""
    return code.resolve()(folders, **code.options)


def digests(code: Code, folders: Folders) -> tuple[str, str]:
    """What a data set says of its content, and the digest of that content."""
    dataset = prepare(code, folders)
    return dataset.digest, content_digest(dataset.splits)


def can_be_prepared(given: Prepared) -> None:
    """It can be prepared."""
    found = type(given.dataset)
    require(issubclass(found, Dataset), f"its code gives a {found.__name__}, and no Dataset")


def nothing_leaks(given: Prepared) -> None:
    """Its splits are train, val and test, and share no class and no image."""
    try:
        guard.check(given.dataset.splits, given.dataset.known_shared)
    except ValueError as error:
        raise AssertionError(str(error)) from None


def images_are_alike(given: Prepared) -> None:
    """Images of all splits have the same shape."""
    shapes = {tuple(pool.images.shape[1:]) for pool in given.dataset.splits.values()}
    require(len(shapes) == 1, f"there are images of {', '.join(map(str, sorted(shapes)))}")


def its_name_can_be_a_file(given: Prepared) -> None:
    """Its name can be that of a folder: letters, digits and the signs . + - _."""
    name = given.dataset.name
    require(re.fullmatch(NAME, name) is not None, f"it is {name!r}")


def episodes_can_be_drawn(given: Prepared) -> None:
    """Each split has episodes of the ways, shots and queries of the test."""
    shape = Shape(given.config.ways, given.config.shots, given.config.queries)
    for split in ("train", "val", "test"):
        try:
            EpisodeSampler(given.dataset.pool(split), shape, ("check",)).draw(0, 2)
        except Mistake as mistake:
            raise AssertionError(f"in {split}, {mistake}") from None


def the_digest_is_of_the_content(given: Prepared) -> None:
    """Its digest is that of images, class names and splits, as `Dataset.of` works it out."""
    digest = given.dataset.digest
    require(re.fullmatch("[0-9a-f]{64}", digest) is not None, f"{digest!r} is no SHA-256")
    if digest != content_digest(given.dataset.splits):
        raise Skipped("it is another one, as of data that is derived by a rule")


def prepared_elsewhere_it_is_the_same(given: Prepared) -> None:
    """Another process, with another hash seed and nothing in its cache, prepares the same."""
    require_the_same(given.dataset, *elsewhere(digests, given.config.dataset, given.other))


def prepared_again_it_is_the_same(given: Prepared) -> None:
    """Prepared again, from the cache if it uses that, it is the same."""
    require_the_same(given.dataset, *digests(given.config.dataset, given.folders))


def require_the_same(dataset: Dataset, digest: str, content: str) -> None:
    """Raise AssertionError where another preparation came to something else."""
    require(content == content_digest(dataset.splits), "images, class names or splits are others")
    require(digest == dataset.digest, "the content is the same, and its digest is another")


LAWS: tuple[Law, ...] = (
    nothing_leaks,
    images_are_alike,
    its_name_can_be_a_file,
    episodes_can_be_drawn,
    the_digest_is_of_the_content,
    prepared_elsewhere_it_is_the_same,
    prepared_again_it_is_the_same,
)
