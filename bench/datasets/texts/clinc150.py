"""CLINC150: what people ask an assistant, 150 intents of 10 domains with 150 texts each.

Larson et al. 2019, "An evaluation dataset for intent classification and out-of-scope prediction".
An intent has the official training, validation and test texts together; out-of-scope texts are not
used. Folds 01 to 05 are the class splits 50 / 50 / 50 of ProtAugment (Dopierre et al. 2021), where
the intents of a domain are in all splits. ``domains`` is a harder split of our own, 75 / 30 / 45: its
test is of banking, credit cards and work, which nothing was trained on.

Four texts are in two intents each, such as "what is on my to do list" in ``reminder`` and
``todo_list``; in the folds, 3 or 4 of them are in two splits.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from bench.datasets.io import published
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset

FILES = {"data_full.json": "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0"}
# one line per class: its split in each fold, its domain, its name
TABLE = Path(__file__).with_name("clinc150_splits.txt")
SHARED = {"01": 3, "02": 3, "03": 3, "04": 3, "05": 4, "domains": 0}
"""Texts that are in more than one split, by fold."""


def prepare(
    folders: DataDirs, *, url: str, fold: Literal["01", "02", "03", "04", "05", "domains"] = "01"
) -> Dataset:
    """Return CLINC150 in a class split, grouped by domain; see the module.

    ``url`` is what holds ``data_full.json`` if neither folder has it in ``text/clinc150``.

    Raises:
        UserError: If the file is missing and cannot be downloaded, or is not the official one.
    """
    name = "clinc150" if fold == "01" else f"clinc150-{fold}"
    names = published.split_names(TABLE, fold)
    dataset = published.prepare(folders, name, FILES, url, examples, names, SHARED[fold])
    domains = {row["class"]: row["domain"] for row in published.read_table(TABLE)}
    return dataset.with_groups(domains.__getitem__)


def examples(contents: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    """Yield intent and text of each example."""
    (content,) = map(json.loads, contents)
    for part in ("train", "val", "test"):
        for text, intent in content[part]:
            yield intent, text
