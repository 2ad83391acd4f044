"""BANKING77: what customers ask a bank, 77 intents of 75 to 227 texts, 13,083 in all.

Casanueva et al. 2020, "Efficient intent detection with dual sentence encoders". An intent has the
official training and test texts together. Folds 01 to 05 are the class splits 25 / 25 / 27 of
ProtAugment (Dopierre et al. 2021).

Two texts are in two intents each but for case and punctuation; 1 or 2 of them are in two splits.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from bench.datasets.io import published
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset

FILES = {
    "train.csv": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
    "test.csv": "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
}
# one line per class: its split in each fold, its name
TABLE = Path(__file__).with_name("banking77_splits.txt")
SHARED = {"01": 2, "02": 1, "03": 1, "04": 2, "05": 1}
"""Texts that are in more than one split, by fold."""


def prepare(
    folders: DataDirs, *, url: str, fold: Literal["01", "02", "03", "04", "05"] = "01"
) -> Dataset:
    """Return BANKING77 in a class split; see the module.

    ``url`` is what holds ``train.csv`` and ``test.csv`` if neither folder has them in
    ``text/banking77``.

    Raises:
        UserError: If a file is missing and cannot be downloaded, or is not the official one.
    """
    name = "banking77" if fold == "01" else f"banking77-{fold}"
    names = published.split_names(TABLE, fold)
    return published.prepare(folders, name, FILES, url, examples, names, SHARED[fold])


def examples(contents: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    """Yield intent and text of each example."""
    for content in contents:
        for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
            yield row["category"], row["text"]
