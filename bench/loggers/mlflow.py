"""MLflow: one run per cell, in the local store results/logs/mlflow.db or on a server."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported

import sqlalchemy  # noqa: F401  # mlflow imports it only when it opens a local store
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.WARNING)


class MLflow:
    """Metrics by training episodes; options as parameters. See `bench.loggers.Logger`.

    A resumed cell continues its last run, unless that is finished; a new one gets a new run.
    """

    def __init__(
        self,
        folder: Path,
        cell: str,
        options: Mapping[str, Any],
        after: int,
        *,
        experiment: str,
        tracking_uri: str | None,
    ) -> None:
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        with FileLock(folder / ".mlflow.lock"):  # several cells may create the database at once
            self.client = MlflowClient(uri or f"sqlite:///{folder / 'mlflow.db'}")
            if known := self.client.get_experiment_by_name(experiment):
                number = known.experiment_id
            else:
                artifacts = None if uri else (folder / "mlflow").as_uri()
                number = self.client.create_experiment(experiment, artifacts)
        self.episodes, self.status, self.known = after, "KILLED", 0
        which = f"attributes.run_name = '{cell}' and attributes.status != 'FINISHED'"
        if after and (runs := self.client.search_runs([number], which, max_results=1)):
            self.run = runs[0].info.run_id
            self.client.update_run(self.run, "RUNNING")
            logged = self.client.get_metric_history(self.run, "val_score")
            self.known = max((each.step for each in logged), default=0)
        else:
            self.run = self.client.create_run(number, run_name=cell).info.run_id
            params = [Param(key, str(value)) for key, value in options.items()]
            self.client.log_batch(self.run, params=params)

    def validation(self, episodes: int, found: Mapping[str, float]) -> None:
        """Log one metric per result.

        Metrics logged before an interruption are skipped, as MLflow would store them twice.
        """
        self.episodes = episodes
        if episodes > self.known:
            self._metrics(found)

    def result(self, found: Mapping[str, float]) -> None:
        """Log the results at the last training episode and mark the run as finished."""
        self._metrics(found)
        self.status = "FINISHED"

    def close(self, failed: bool) -> None:
        """End the run."""
        self.client.set_terminated(self.run, "FAILED" if failed else self.status)

    def _metrics(self, found: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [Metric(key, value, now, self.episodes) for key, value in found.items()]
        self.client.log_batch(self.run, metrics=metrics)
