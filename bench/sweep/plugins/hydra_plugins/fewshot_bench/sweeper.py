"""Hydra's sweeper of ``tune=optuna``: rounds of trials, then the cells of the grid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins import basic_sweeper
from hydra.core.config_store import ConfigStore


@dataclass
class TunerConf:
    """Hydra config node of the tuner."""

    _target_: str = "hydra_plugins.fewshot_bench.sweeper.Tuner"
    params: dict[str, str] | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="tuner", node=TunerConf, provider="fewshot-bench"
)


class Tuner(basic_sweeper.BasicSweeper):
    """Hydra's basic sweeper with the jobs of `bench.sweep.tuning.batches`."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.batches: Iterator[list[list[str]]] | None = None
        self.batch: list[list[str]] | None = None

    def is_done(self) -> bool:
        """Fetch the next batch and return whether there is none."""
        if self.batches is None:
            from bench.sweep import tuning  # imports torch
            from bench.sweep.callback import checked

            assert self.overrides is not None
            grid = [list(overrides) for overrides in self.overrides[0]]
            self.batches = tuning.batches(grid, checked)
        self.batch = next(self.batches, None)
        return self.batch is None

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """Return the overrides of the jobs to launch now."""
        assert self.batch is not None
        return self.batch
