"""Reuters: news agency reports of 1987 on 31 topics, 20 each.

Of Reuters-21578 (Lewis 1997), as chosen and split by Bao et al. 2020, "Few-shot text classification
with distributional signatures": 15 / 5 / 11 topics. Reports are long, 172 words on average.
"""

from functools import partial
from pathlib import Path

from bench.datasets.io import published
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset

FILES = {"reuters.json": "182fafbc470630eebd2a20a49563151fa78c3b929adf4b5c657306c23cfff555"}
# one line per class in the order of their numbers: its split, its name
TABLE = Path(__file__).with_name("reuters_splits.txt")


def prepare(folders: DataDirs, *, url: str) -> Dataset:
    """Return the reports.

    ``url`` is what holds ``reuters.json`` if neither folder has it in ``text/reuters``.

    Raises:
        UserError: If the file is missing and cannot be downloaded, or is another one.
    """
    examples = partial(published.numbered_lines, table=TABLE)
    names = published.split_names(TABLE, "split")
    return published.prepare(folders, "reuters", FILES, url, examples, names, 0)
