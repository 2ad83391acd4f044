"""TensorBoard: one run per cell, in results/logs/tensorboard/<cell>/."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams


class TensorBoard:
    """Scalars by training episodes; options as hyperparameters. See `bench.loggers.Logger`.

    What an interrupted run logged after the point of resumption is hidden (``purge_step``).
    """

    def __init__(self, folder: Path, cell: str, options: Mapping[str, Any], after: int) -> None:
        self.writer = SummaryWriter(str(folder / "tensorboard" / cell), purge_step=after + 1)
        self.episodes = after
        kinds = hparams(dict(options), {"test_score": 0.0})
        for summary in kinds:
            self.writer._get_file_writer().add_summary(summary)

    def validation(self, episodes: int, found: Mapping[str, float]) -> None:
        """Log one scalar per result."""
        self.episodes = episodes
        self._scalars(found)

    def result(self, found: Mapping[str, float]) -> None:
        """Log one scalar per result, at the last training episode."""
        self._scalars(found)

    def close(self, failed: bool) -> None:
        """Close the event file, which has no representation of failures."""
        self.writer.close()

    def _scalars(self, found: Mapping[str, float]) -> None:
        for name, value in found.items():
            self.writer.add_scalar(name, value, self.episodes)
        self.writer.flush()
