"""What the Python API returns of a cell."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.runs.store import Store


@dataclass(frozen=True)
class Result:
    """The result of a finished cell: its record, and the folder of its files."""

    record: dict[str, Any]
    folder: Path

    @property
    def score(self) -> float:
        """The mean metric of the test episodes: accuracy in percent, mean squared error, ..."""
        return float(self.record["score"])

    @property
    def ci95(self) -> float:
        """The half-width of its 95 % interval, over the test episodes."""
        return float(self.record["ci95"])

    @property
    def episodes(self) -> pd.DataFrame:
        """The test episodes, one row each."""
        return Store(self.folder.parents[1]).episodes(self.folder.name)
