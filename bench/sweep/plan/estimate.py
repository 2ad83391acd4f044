"""Estimate of a cell's duration from measured rows."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from algorithms.learner import Setting
from bench.report.rows import Row, phase_throughput

ALIKE = ("algo", "dataset", "backbone", "backbone_options", "precision", "deterministic")
"""Keys in which a row must agree with a cell to be used for its estimate."""
SETTING = (
    "algo_options",
    *("ways", "shots", "queries", "train_ways", "train_shots", "train_queries", "meta_batch"),
    *("optimizer", "augmentation"),
)
"""Further keys that affect the time per image."""
BUDGET = ("train_examples", "validations", "val_episodes", "episodes")
"""Keys by which times are scaled."""


class Times(NamedTuple):
    """Estimate of a cell from one row: its duration and, if measured, the joules of its GPU."""

    seconds: float
    joules: float | None


class Estimate(NamedTuple):
    """Estimates of a cell from the nearest rows, from fast to slow, and the keys in which they differ."""

    times: list[Times]
    differing: list[str]

    @property
    def middle(self) -> Times:
        """The median; with an even number, the mean of the middle two."""
        low, high = self.times[(len(self.times) - 1) // 2], self.times[len(self.times) // 2]
        joules = [each.joules for each in (low, high) if each.joules is not None]
        return Times(fmean((low.seconds, high.seconds)), fmean(joules) if joules else None)


def estimate(facts: dict[str, Any], rows: Sequence[Row]) -> Estimate | None:
    """Return the estimate of a cell with these facts from the nearest rows; None if there are none."""

    def other(row: Row, keys: Sequence[str]) -> list[str]:
        return [key for key in keys if key in facts and row.get(key) != facts[key]]

    near = [
        row for row in rows if not other(row, ALIKE) and (row["train_examples"] or untrained(facts))
    ]
    if not near:
        return None
    nearest = min((len(other(row, SETTING)), len(other(row, BUDGET))) for row in near)
    chosen = [row for row in near if (len(other(row, SETTING)), len(other(row, BUDGET))) == nearest]
    differing = dict.fromkeys(key for row in chosen for key in other(row, SETTING + BUDGET))
    found = sorted((times(facts, row) for row in chosen), key=lambda each: each.seconds)
    return Estimate(found, list(differing))


def untrained(of: dict[str, Any]) -> bool:
    """Return whether a row or a cell with these facts has no training."""
    return not of["train_examples"]


def idle_share(row: Row) -> float:
    """Return the ratio of a row's time on an idle machine to its measured time, at most 1.

    On a CPU it is based on the CPU time of its training, if that is less than the elapsed time:
    exact with one thread, an upper bound with more threads, as these wait for each other.
    """
    worked = row["train_process_seconds"]
    if row["device"] != "cpu" or not worked or not row["train_seconds"]:
        return 1.0
    return float(min(1.0, worked / row["train_seconds"]))


def times(facts: dict[str, Any], row: Row) -> Times:
    """Return the estimate from one row: its own times, scaled by the examples of training and evaluation.

    Validation and test are estimated from the row's throughput in evaluation. The rest of the row's
    time, such as the speed measurement, is not scaled. A trial, whose facts have no ``episodes``,
    has neither test nor rest. All times are those of an idle machine, see `idle_share`.
    """
    rates = phase_throughput([row], "evaluate", "examples_per_s") or math.inf

    def parts(of: dict[str, Any]) -> tuple[float, float, float]:
        examples = Setting(of["ways"], of["shots"], of["queries"] or 0).examples
        if untrained(of):
            return 0.0, 0.0, of.get("episodes", 0) * examples / rates
        training = row["train_seconds"] * of["train_examples"] / row["train_examples"]
        validation = of["validations"] * of["val_episodes"] * examples / rates
        return training, validation, of.get("episodes", 0) * examples / rates

    rest = max(0.0, row["elapsed_seconds"] - sum(parts(row)))
    share = idle_share(row)
    training, validation, test, rest = (share * each for each in (*parts(facts), rest))
    tested = test + rest if "episodes" in facts else 0.0
    seconds = training + validation + tested
    watts = (
        phase_throughput([row], "train", "power_w"),
        phase_throughput([row], "evaluate", "power_w"),
    )
    if watts[0] is None or watts[1] is None:
        return Times(seconds, None)
    return Times(seconds, watts[0] * training + watts[1] * (validation + tested))
