"""A user's own texts: a folder of text files, one a class, or one CSV file.

The name of a file such as ``refund.txt`` is that of the class, and each of its lines is a text. A CSV
file has a text and a label in each row. All are UTF-8. Blank lines, hidden files, files of other types
and those without texts are passed over. Classes are split by a file or at random (`class_split`), and
no text may be in two splits.

Texts are read anew each time, as that takes no longer than to look for those in two splits.
"""

import csv
import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from bench.config.schema import Count, Positive, last_name
from bench.core.errors import UserError, printable
from bench.datasets.images.folder import find, label_of, readable, some, spelled, visible
from bench.datasets.io.cache import DataDirs
from bench.datasets.io.class_split import random_split, read_split
from bench.tasks.leaks import fingerprints
from bench.tasks.pool import Dataset, Pool
from bench.tasks.texts import pools, to_text

log = logging.getLogger(__name__)

Texts = dict[str, list[str]]
"""Texts by class."""

MOST_BYTES = 1_000_000_000
"""Larger files are not read, and texts that take more memory are not prepared."""
MOST_SHOWN = 60
"""Characters of a text in a message."""


def prepare(
    folders: DataDirs,
    *,
    path: str | None,
    label: str | None,
    splits: str | None,
    split_seed: Count,
    min_classes: Positive,
    min_texts: Positive,
    length: Annotated[int, Field(ge=4)],
) -> Dataset:
    """Return the texts of the folder or CSV file ``path``; see the module.

    The name in tables is ``label``, by default the name of folder or file. ``splits`` is a file
    (`read_split`); without one, the classes are split at random by ``split_seed``, at least
    ``min_classes`` in each. Classes of fewer than ``min_texts`` texts are left out, and what is
    longer than ``length`` bytes is cut.

    Raises:
        UserError: If folder or file cannot be found, read or used, or a text is in two splits.
    """
    if not path:
        raise UserError(
            "dataset=textfolder needs texts; name a folder of .txt files, one a class, or a .csv file "
            "with dataset.path=..."
        )
    root = find("path", path, [folders.archives])
    last = last_name(path) or ""
    name = label_of(label or last.removesuffix(".csv"), "textfolder")
    passed_over: list[str] = []
    every = read(root, passed_over)
    classes = {each: texts for each, texts in every.items() if len(texts) >= min_texts}
    if left_out := every.keys() - classes:
        passed_over.append(
            f"{shown(left_out)}, with fewer than dataset.min_texts={min_texts} texts"
        )
    try:
        if splits:
            place = root if root.is_dir() else root.parent
            parts = read_split(find("splits", splits, [folders.archives, place]), classes, "texts")
        else:
            parts = random_split(classes, split_seed, min_classes)
    except UserError as mistake:
        small = f" (dataset.min_texts left out {shown(left_out)})" if left_out else ""
        raise UserError(f"{root}: {mistake}{small}") from None
    if few := [each for names in parts.values() for each in names if len(classes[each]) < 2]:
        raise UserError(
            f"{root} has classes of fewer than 2 texts: {shown(few)}; add texts, or leave such classes "
            "out with dataset.min_texts=2"
        )
    made = cut(classes, length, passed_over)
    chosen = {split: {each: made[each] for each in names} for split, names in parts.items()}
    check_memory(chosen)
    dataset = Dataset.of(name, pools(chosen), examples="texts")
    for each in (*passed_over, *repeats(root, dataset.splits)):
        log.warning("%s: %s", name, each)
    return dataset


def read(root: Path, passed_over: list[str]) -> Texts:
    """Return the texts of each class in a folder or a CSV file; raise UserError.

    Adds to ``passed_over`` what is not read.
    """
    return readable(read_folder if root.is_dir() else read_csv, root, passed_over)


def read_folder(root: Path, passed_over: list[str]) -> Texts:
    """Return the lines of each text file in a folder; raise UserError or OSError.

    Adds to ``passed_over`` what is not read.
    """
    every = sorted(each for each in root.iterdir() if visible(each.name))
    files = [each for each in every if each.suffix.lower() == ".txt" and each.is_file()]
    check_size(root, files)
    texts: Texts = defaultdict(list)
    for file in files:
        texts[spelled(file.stem)] += filter(None, map(cleaned, text_of(file).split("\n")))
    found = {name: lines for name, lines in texts.items() if lines}
    if not found:
        raise UserError(
            f"{root} holds no .txt files with texts; make one for each class, with a text a line"
        )
    if others := [spelled(each.name) for each in every if each not in files]:
        passed_over.append(f"{shown(others)} passed over, as only .txt files are read")
    if empty := texts.keys() - found:
        passed_over.append(f"{shown(empty)} left out, without texts")
    return found


def read_csv(path: Path, passed_over: list[str]) -> Texts:
    """Return the texts of each label in a CSV file; raise UserError or OSError.

    Adds to ``passed_over`` what is not read.
    """
    if path.suffix.lower() != ".csv":
        raise UserError(f"{path} is no .csv file; name one, or a folder of .txt files, one a class")
    texts: Texts = defaultdict(list)
    without = 0
    rows = rows_of(path)
    text_column, label_column = columns(path, next(rows))
    for row in rows:
        text, label = cleaned(row[text_column]), spelled(cleaned(row[label_column]))
        if text and label:
            texts[label].append(text)
        else:
            without += 1
    if not texts:
        raise UserError(f"{path} has no rows with a text and a label; add some")
    if without:
        passed_over.append(f"{without} rows without a text or a label left out")
    return texts


def rows_of(path: Path) -> Iterator[list[str]]:
    """Yield the names of the columns of a CSV file in small letters, then its rows, all as long.

    Raises UserError or OSError.
    """
    check_size(path, [path])
    rows = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
    try:
        header = [each.strip().lower() for each in next(rows, [])]
        yield header
        for row in filter(None, rows):
            if len(row) != len(header):
                raise UserError(
                    f"{path}, line {rows.line_num}: {len(row)} values, where the first line has "
                    f"{len(header)}; put quotes around what has commas"
                )
            yield row
    except csv.Error as error:
        raise UserError(
            f"{path}, line {rows.line_num}: {error}; mend the quotes, each of which stands twice in a "
            "text"
        ) from None


def read_unlabelled(path: Path) -> list[str]:
    """Return the lines of a file, or the column ``text`` of a CSV file; raise UserError or OSError."""
    if path.suffix.lower() == ".csv":
        rows = rows_of(path)
        header = next(rows)
        if header.count("text") != 1:
            names = ", ".join(map(quoted, header[:9]))
            raise UserError(f"{path} has the columns {names}; name one text in the first line")
        column = header.index("text")
        texts = [cleaned(row[column]) for row in rows]
    else:
        check_size(path, [path])
        texts = [cleaned(line) for line in text_of(path).split("\n")]
    if found := [text for text in texts if text]:
        return found
    raise UserError(f"{path} has no texts; write one a line, or a .csv file with a column text")


def columns(path: Path, header: list[str]) -> tuple[int, int]:
    """Return the columns of text and label; raise UserError if they are not told apart by name."""
    wanted = ["text", "label"]
    if len(header) == 2 and len(found := [each for each in header if each in wanted]) == 1:
        other = wanted[1 - wanted.index(found[0])]
        header = [each if each in wanted else other for each in header]
    if any(header.count(each) != 1 for each in wanted):
        names = ", ".join(map(quoted, header[:9]))
        raise UserError(
            f"{path} has the columns {names}; name one text and one label in the first line, with a "
            "comma between"
        )
    return header.index("text"), header.index("label")


def check_size(root: Path, files: list[Path]) -> None:
    """Raise UserError if files are too large to be read into memory."""
    size = sum(file.stat().st_size for file in files)
    if size > MOST_BYTES:
        raise UserError(
            f"{root} holds {size / 1e9:.1f} GB of text, and {MOST_BYTES / 1e9:g} GB are read at most; "
            "take a part of it"
        )


def check_memory(chosen: dict[str, Texts]) -> None:
    """Raise UserError if the rectangle of all texts is too large for memory."""
    texts = [text for classes in chosen.values() for those in classes.values() for text in those]
    longest = max(len(text.encode()) for text in texts)
    if len(texts) * longest > MOST_BYTES:
        raise UserError(
            f"{len(texts):,} texts of up to {longest} bytes take {len(texts) * longest / 1e9:.1f} GB; "
            f"cut them by dataset.length={MOST_BYTES // len(texts)}, or take fewer"
        )


def text_of(path: Path) -> str:
    """Return the content of a file of UTF-8; raise UserError or OSError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{printable(str(path))} is no UTF-8 (its byte {error.start:,}); save it as UTF-8"
        ) from None


def cleaned(text: str) -> str:
    """Return a text without spaces around it, and without characters of code zero."""
    return text.replace("\0", "").strip()


def cut(classes: Texts, length: int, notes: list[str]) -> Texts:
    """Return the texts, cut to a number of bytes at the end of a character; add a note of how many."""
    made = {
        name: [text.encode()[:length].decode(errors="ignore") for text in texts]
        for name, texts in classes.items()
    }
    pairs = ((a, b) for name in classes for a, b in zip(classes[name], made[name], strict=True))
    if longer := sum(a != b for a, b in pairs):
        notes.append(f"{longer} texts are longer than dataset.length={length} bytes, and are cut")
    return made


def repeats(root: Path, splits: dict[str, Pool]) -> list[str]:
    """Return notes on texts that are twice in a class, or in two classes of a split.

    Raises UserError, which shows one, if texts are in two splits.
    """
    first: dict[bytes, tuple[str, str]] = {}
    shared: dict[bytes, str] = {}
    ambiguous: dict[bytes, str] = {}
    repeated = 0
    for split, pool in splits.items():
        names = np.repeat(np.array(pool.names, object), pool.sizes)
        for row, (name, words) in enumerate(zip(names, fingerprints(pool), strict=True)):
            if words not in first:
                first[words] = split, name
                continue
            text, (where, whose) = quoted(to_text(pool.inputs[row])), first[words]
            if where != split:
                places = f"{quoted(whose)} in {where}, {quoted(name)} in {split}"
                shared.setdefault(words, f"{text} ({places})")
            elif whose != name:
                ambiguous.setdefault(words, f"{text} ({quoted(whose)} and {quoted(name)})")
            else:
                repeated += 1
    if shared:
        raise UserError(
            f"{len(shared)} texts of {root} are in two splits, such as {some(shared.values())}; delete "
            "one of each, or have both classes in one split by dataset.splits=FILE"
        )
    notes = []
    if repeated:
        notes.append(
            f"{repeated} texts repeat one of their own class, which an episode may ask for"
        )
    if ambiguous:
        notes.append(
            f"{len(ambiguous)} texts are in two classes, such as {some(ambiguous.values())}; no learner "
            "can tell which is meant, so delete one of each"
        )
    return notes


def shown(names: Iterable[str]) -> str:
    """Return the first few names in quotes, and the number of the others."""
    return some([*map(quoted, names)])


def quoted(text: str) -> str:
    """Return a text in quotes, shortened and without characters that could control a terminal."""
    return repr(text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…")
