"""HuffPost: headlines of 2012 to 2018 in 41 categories of 900 each.

Of the News Category Dataset (Misra 2018), as chosen and split by Bao et al. 2020, "Few-shot text
classification with distributional signatures": 20 / 5 / 16 categories, lower case, tokens between
spaces. Some categories are near each other across splits, such as ARTS and ENTERTAINMENT.
"""

from functools import partial
from pathlib import Path

from bench.datasets.io import published
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset

FILES = {"huffpost.json": "2485569669dd7ec5bf1e2f7468568a1d019faeb9941205bc9fb7edae93c488d6"}
# one line per class in the order of their numbers: its split, its name
TABLE = Path(__file__).with_name("huffpost_splits.txt")


def prepare(folders: DataDirs, *, url: str) -> Dataset:
    """Return the headlines.

    ``url`` is what holds ``huffpost.json`` if neither folder has it in ``text/huffpost``.

    Raises:
        UserError: If the file is missing and cannot be downloaded, or is another one.
    """
    examples = partial(published.numbered_lines, table=TABLE)
    names = published.split_names(TABLE, "split")
    return published.prepare(folders, "huffpost", FILES, url, examples, names, 0)
