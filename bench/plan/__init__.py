"""How long a cell takes, from rows that were measured."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from bench.plan.schedule import Job
from bench.report.rows import Row, rate

ALIKE = ("algo", "dataset", "backbone", "backbone_options", "precision", "deterministic")
"""Without a row that agrees in these, nothing is said of a cell."""
SETTING = (
    "algo_options",
    *("ways", "shots", "queries", "train_ways", "train_shots", "train_queries", "meta_batch"),
    *("optimizer", "augmentation"),
)
"""What the time of an image depends on, too."""
BUDGET = ("train_images", "validations", "val_episodes", "episodes")
"""What times are scaled by."""


class Times(NamedTuple):
    """What a row says of a cell: the joules of its GPU, where they were measured, too.

    ``pause`` is the seconds of a step and a validation, which nothing is saved within.
    """

    job: Job
    joules: float | None
    pause: float


class Estimate(NamedTuple):
    """What the nearest rows say of a cell, from fast to slow, and the facts in which they differ."""

    times: list[Times]
    differing: list[str]

    @property
    def middle(self) -> Times:
        """The median; of two in the middle the mean."""
        low, high = self.times[(len(self.times) - 1) // 2], self.times[len(self.times) // 2]
        joules = [each.joules for each in (low, high) if each.joules is not None]
        return Times(
            Job(*map(fmean, zip(low.job, high.job, strict=True))),
            fmean(joules) if joules else None,
            fmean((low.pause, high.pause)),
        )


def estimate(facts: dict[str, Any], rows: Sequence[Row]) -> Estimate | None:
    """What the nearest rows say of a cell with these facts; None where there are none."""

    def other(row: Row, keys: Sequence[str]) -> list[str]:
        return [key for key in keys if key in facts and row.get(key) != facts[key]]

    near = [
        row for row in rows if not other(row, ALIKE) and (row["train_images"] or untrained(facts))
    ]
    if not near:
        return None
    nearest = min((len(other(row, SETTING)), len(other(row, BUDGET))) for row in near)
    chosen = [row for row in near if (len(other(row, SETTING)), len(other(row, BUDGET))) == nearest]
    differing = dict.fromkeys(key for row in chosen for key in other(row, SETTING + BUDGET))
    found = sorted((times(facts, row) for row in chosen), key=lambda each: sum(each.job))
    return Estimate(found, list(differing))


def untrained(of: dict[str, Any]) -> bool:
    """Whether a row or a cell with these facts has no training."""
    return not of["train_images"]


def idle_share(row: Row) -> float:
    """Return the share of a row's time that it would have taken on an idle machine, at most 1.

    On a CPU that is the processor time of its training, where that is less than the time it took: with
    one thread exactly, with more threads an upper bound, as these wait for each other.
    """
    worked = row.get("train_process_seconds")
    if row["device"] != "cpu" or not worked or not row["train_seconds"]:
        return 1.0
    return float(min(1.0, worked / row["train_seconds"]))


def times(facts: dict[str, Any], row: Row) -> Times:
    """What a row says of a cell: its own times, scaled by the images of training and evaluation.

    Validation and test go by the rate at which the row evaluated. What remains of the row's time, such
    as the measurement of speed, is taken as it is. A trial, whose facts have no ``episodes``, has neither
    test nor rest. All are times of an idle machine, see `idle_share`.
    """
    rates = rate([row], "evaluate", "images_per_s") or math.inf

    def parts(of: dict[str, Any]) -> tuple[float, float, float]:
        images = of["ways"] * (of["shots"] + of["queries"])
        if untrained(of):
            return 0.0, 0.0, of.get("episodes", 0) * images / rates
        training = row["train_seconds"] * of["train_images"] / row["train_images"]
        validation = of["validations"] * of["val_episodes"] * images / rates
        return training, validation, of.get("episodes", 0) * images / rates

    if elapsed := row.get("elapsed_seconds"):
        rest = max(0.0, elapsed - sum(parts(row)))
    else:
        rest = sum(phase["calls"] * phase["ms_median"] for phase in row["throughput"]) / 1e3
    share = idle_share(row)
    training, validation, test, rest = (share * each for each in (*parts(facts), rest))
    job = Job(training + validation, test + rest if "episodes" in facts else 0.0)
    images = facts["train_ways"] * (facts["train_shots"] + facts["train_queries"])
    step = training * facts["meta_batch"] * images / max(1, facts["train_images"])
    pause = step + validation / facts["validations"]
    watts = rate([row], "train", "power_w"), rate([row], "evaluate", "power_w")
    if watts[0] is None or watts[1] is None:
        return Times(job, None, pause)
    return Times(job, watts[0] * training + watts[1] * (sum(job) - training), pause)
