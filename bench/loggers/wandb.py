"""Weights & Biases: one run per cell; files are in results/logs/wandb/."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # before wandb is imported

import wandb


class WandB:
    """Metrics by training episodes; options as the run's configuration. See `bench.loggers.Logger`.

    The run id is the name of the cell, so that a resumed cell continues its run, except in offline
    mode, where wandb writes another file to be synchronised. Whether anything is sent depends on
    the user's wandb settings, unless ``mode`` is given.
    """

    def __init__(
        self,
        folder: Path,
        cell: str,
        options: Mapping[str, Any],
        after: int,
        *,
        project: str,
        entity: str | None,
        mode: Literal["online", "offline", "disabled", "shared"] | None,
    ) -> None:
        quiet = wandb.Settings(
            silent=True, console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True
        )
        used = mode or wandb.setup().settings.mode
        if used == "online" and not wandb.login(prompt=False):  # a prompt would block the cell
            raise RuntimeError("wandb login comes first, or logger.mode=offline")
        self.run = wandb.init(
            dir=str(folder),
            project=project,
            entity=entity,
            mode=mode,
            id=cell[-64:],
            name=cell,
            config=dict(options),
            resume="allow" if after else None,
            reinit="create_new",
            settings=quiet,
        )

    def validation(self, episodes: int, found: Mapping[str, float]) -> None:
        """Log one line of the run's history."""
        self.run.log(dict(found), step=episodes)

    def result(self, found: Mapping[str, float]) -> None:
        """Update the run's summary."""
        self.run.summary.update(dict(found))

    def close(self, failed: bool) -> None:
        """Finish the run and wait for pending uploads."""
        self.run.finish(exit_code=int(failed))
