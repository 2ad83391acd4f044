"""What a kind of task is to the runner: its metric, its loss, and how it is evaluated."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from algorithms.learner import Learner, Setting, TaskBatch
from algorithms.losses import Loss
from bench.stats.intervals import mean_ci95

if TYPE_CHECKING:
    import pandas as pd

MOST = 1e15
"""A score beyond this, either way, is not possible: far above any real one."""
LEAST = 1e-12
"""Errors below this count as equal where logarithms are compared."""


class Metric(BaseModel):
    """A number that each task gives, by which parameters are selected and learners are ranked.

    A record holds the metric of its score. ``name`` is what its table and column are called, such as
    ``accuracy``; ``label`` is for captions and axes; ``low`` and ``high`` are its bounds, if any.
    Two learners are compared by the difference of their scores, or by their ratio if the ``scale``
    is logarithmic, as for errors over orders of magnitude. ``digits`` are the decimals in text of a
    linear one.
    """

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="allow")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    label: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,60}$")]
    unit: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{0,20}$")] = ""
    higher_is_better: bool = True
    low: float | None = None
    high: float | None = None
    scale: Literal["linear", "log"] = "linear"
    digits: Annotated[int, Field(ge=0, le=9)] = 1

    @property
    def worst(self) -> float:
        """The worst possible score, or one that is worse than any that matters."""
        bound = self.low if self.higher_is_better else self.high
        far = -MOST if self.higher_is_better else MOST
        return far if bound is None else bound

    def contains(self, score: float) -> bool:
        """Return whether a score is possible."""
        low, high = (
            (-MOST if self.low is None else self.low),
            (MOST if self.high is None else self.high),
        )
        return low <= score <= high

    def is_better(self, score: float, other: float) -> bool:
        """Return whether a score is better than another."""
        return score > other if self.higher_is_better else score < other

    def best(self, scores: Sequence[float]) -> int:
        """Return the place of the best score, of the first of equals."""
        return scores.index(max(scores) if self.higher_is_better else min(scores))

    def text(self, mean: float, half: float | None = None) -> str:
        """Return a score as text, such as ``93.1 ± 0.4 %``."""
        return f"{self.number(mean, half)} {self.unit}".rstrip()

    def number(self, mean: float, half: float | None = None) -> str:
        """Return a score as text without its unit; a logarithmic one has 3 significant digits."""
        if self.scale == "log":
            return f"{mean:.3g}" if half is None else f"{mean:.3g} ± {half:.2g}"
        digits = self.digits + (half is not None and 0 < half < 10**-self.digits)
        return " ± ".join(f"{each:.{digits}f}" for each in (mean, half) if each is not None)

    def axis(self, of: str = "Test") -> str:
        """Return the label of an axis, such as ``Test accuracy (%)``."""
        return f"{of} {self.label}" + (f" ({self.unit})" if self.unit else "")

    def margin(self, points: float) -> float:
        """Return a margin of equivalence as a difference of merits; of logarithms, in percent."""
        return math.log1p(points / 100) if self.scale == "log" else points

    def merits(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scores so that more is better and differences compare: negative, or logarithms."""
        values = np.log(np.maximum(scores, LEAST)) if self.scale == "log" else scores
        return values if self.higher_is_better else -values


class Tasks(NamedTuple):
    """What an evaluation knows of the T tasks of a batch beside what learners see.

    ``numbers`` are those of the tasks in their source, int64 [T]; ``hidden`` are the parameters
    [T, P] that define them, None if there are none.
    """

    numbers: Tensor
    hidden: Tensor | None


class Domain(ABC):
    """A kind of task, such as classification: what its targets are and what good means.

    A data set brings its domain. The runner never looks into a batch: it draws batches from a
    `TaskSource`, has the learner train on them, and the domain evaluate it.
    """

    metric: ClassVar[Metric]
    """The metric that selects parameters, is tuned for, and ranks learners."""

    has_classes: ClassVar[bool]
    """Whether tasks have classes (ways)."""

    by_acting: ClassVar[bool] = False
    """Whether learners make their examples themselves, by acting in an environment."""

    scores_outputs: ClassVar[bool] = True
    """Whether the score is of the outputs for queries; otherwise, of what a policy does."""

    probed_steps: ClassVar[tuple[int, ...]] = (1, 2, 3, 5, 10, 20, 50)
    """Inner steps that a run is tested with by `bench.runs.probe`."""

    probed_shots: tuple[int, ...] = (1, 2, 3, 5, 10, 15, 20)
    """Shots that a run is tested with by `bench.runs.probe`."""

    probes_runs: ClassVar[bool] = False
    """Whether runs are also tested under other conditions (`bench.runs.probe`), which is cheap."""

    tests_all: ClassVar[bool] = False
    """Whether all examples of a task's classes beside its support set are its queries.

    The examples are then all there is, so that there is no training: the test split has them.
    """

    unit: ClassVar[str] = "episodes"
    """What a row of `table` is, and the name of its file."""

    @abstractmethod
    def loss(self, label_smoothing: float = 0.0) -> Loss:
        """Return the loss of both loops; raise ValueError if it has no labels to be smoothed."""

    @abstractmethod
    def outputs(self, setting: Setting, targets: Tensor | None) -> int:
        """Return how many outputs a learner has, given the setting and the targets of a pool."""

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what learners see, given that of an example of a pool."""
        return shape

    def arrange(self, batch: TaskBatch) -> TaskBatch:
        """Return tasks as learners see them, given those with the examples of a pool."""
        return batch

    @abstractmethod
    def evaluate(self, learner: Learner, batch: TaskBatch, tasks: Tasks) -> dict[str, Tensor]:
        """Return numbers of each task on the CPU, float64 [T] or [T, ...]: at least ``score``.

        Those of shape [T] are stored for each test episode.
        """

    def interval(self, tested: dict[str, Tensor]) -> tuple[float, float]:
        """Return the score and the half-width of its 95 % interval, from the results of all tasks."""
        return mean_ci95(tested["score"])

    def table(self, tested: dict[str, Tensor], source: "TaskSource") -> "pd.DataFrame":
        """Return one row for each task: its metrics, and what the source tells of it."""
        import pandas as pd  # late: half a second of each command

        metrics = {key: x for key, x in tested.items() if x.ndim == 1 and key != "unsolved"}
        count = len(tested["score"])
        return pd.DataFrame({"episode": range(count)} | metrics | source.columns(count))

    def summary(self, scores: dict[str, Tensor]) -> dict[str, float]:
        """Return what a record holds besides the mean score, from the results of all tasks."""
        return {}

    def files(
        self, learner: Learner, source: "TaskSource", tested: dict[str, Tensor]
    ) -> dict[str, str]:
        """Return further files of a run, by name, for tables and figures."""
        return {}


class TaskSource(Protocol):
    """Tasks of one setting, addressed by number: task i is a pure function of axes and i."""

    domain: Domain
    setting: Setting
    key: tuple[int, int]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all classes that tasks are drawn from, by ``TaskBatch.classes``."""

    @property
    def device(self) -> torch.device:
        """The device of the tasks."""

    def draw(self, first: int, count: int) -> TaskBatch:
        """Return tasks ``first .. first+count-1`` as a meta-batch."""

    def tasks(self, first: int, count: int) -> Tasks:
        """Return what an evaluation knows of tasks ``first .. first+count-1``."""

    def digest(self, count: int) -> str:
        """Return a digest of the first ``count`` tasks."""

    def columns(self, count: int) -> dict[str, list[str]]:
        """Return what is stored of the first ``count`` tasks beside their scores."""
