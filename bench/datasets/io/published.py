"""Text data sets as published: their files, held to a digest, and their class splits, in a table."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from bench.core.errors import UserError
from bench.datasets.io.archives import from_archive
from bench.datasets.io.cache import DataDirs, cached
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset
from bench.tasks.texts import pools

MOST_BYTES = 50_000_000
"""More than this is not read; the largest official file has 3 MB."""


def prepare(
    folders: DataDirs,
    name: str,
    files: Mapping[str, str],
    url: str,
    examples: Callable[[Sequence[bytes]], Iterable[tuple[str, str]]],
    names: Mapping[str, Sequence[str]],
    expected_duplicates: int,
) -> Dataset:
    """Return a data set of published files.

    Args:
        folders: The folders of archives and of the cache.
        name: The name of the data set; its files are in ``text/NAME``, without what follows a hyphen.
        files: The SHA-256 (hexadecimal) of each file, by its name.
        url: The address that holds the files, asked only if neither folder has them.
        examples: Yields a class and a text for each example in the contents of the files.
        names: The classes of each split.
        expected_duplicates: The number of texts that are in more than one split.

    Raises:
        UserError: If a file is missing and cannot be downloaded, or is not the official one.
    """

    def build() -> Dataset:
        by_class: dict[str, list[str]] = defaultdict(list)
        for label, text in examples([official(folders, name, files, each, url) for each in files]):
            by_class[label].append(text)
        splits = pools(
            {split: {each: by_class[each] for each in of} for split, of in names.items()}
        )
        check(splits, expected_duplicates)
        return Dataset.of(name, splits)

    dataset = cached(folders.cache, name, repr((files, names)).encode(), build)
    return replace(dataset, expected_duplicates=expected_duplicates, examples="texts")


def official(folders: DataDirs, name: str, files: Mapping[str, str], file: str, url: str) -> bytes:
    """Return the content of one of the files of a data set; raise UserError, see `prepare`."""
    folder, address = f"text/{name.partition('-')[0]}", f"{url.rstrip('/')}/{file}"
    read = partial(checked, files[file])
    return from_archive(folders, folder, file, list(files), address, read, instead="names")


def checked(sha256: str, file: BinaryIO, source: str, advice: str) -> bytes:
    """Return the content of a file of that digest.

    Raises UserError; ``source`` and ``advice`` are as in `from_archive`.
    """
    content = file.read(MOST_BYTES)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"{source} is another file than the official one (SHA-256 {found[:12]}, expected "
            f"{sha256[:12]}); {advice}"
        )
    return content


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, by column; the last column, ``class``, may have spaces."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    columns = lines[0].split()
    rows = (line.split(maxsplit=len(columns) - 1) for line in lines[1:])
    return [dict(zip(columns, row, strict=True)) for row in rows]


def split_names(path: Path, column: str) -> dict[str, list[str]]:
    """Return the classes of each split in alphabetical order, from a column of a table."""
    rows = read_table(path)
    return {
        split: sorted(row["class"] for row in rows if row[column] == split)
        for split in ("train", "val", "test")
    }


def numbered_lines(contents: Sequence[bytes], *, table: Path) -> Iterator[tuple[str, str]]:
    """Yield class and text of each line of JSON, whose ``label`` is the number of a row of a table."""
    names = [row["class"] for row in read_table(table)]
    for content in contents:
        for line in map(json.loads, content.splitlines()):
            yield names[line["label"]], line["raw"]
