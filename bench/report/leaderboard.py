"""Ranking of learners with its uncertainty, paired on the episodes that all have in common."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.report.rows import (
    SCORE,
    Comparison,
    Row,
    comparisons,
    done,
    of_learner,
    with_labels,
    with_scores,
)
from bench.runs.records import interval, tested_on
from bench.stats import intervals
from bench.tasks.base import Metric

LEVEL = 0.05
"""Significance level: differences with a corrected p below it count; all others are ties."""
MARGIN = 1.0
"""Default margin of equivalence, in points of the score; of a logarithmic one, in percent."""

PLACE = ("comparison", "metric", "setting", "dataset", "ways", "shots", "episodes_digest")

Episodes = Mapping[str, pd.DataFrame]
"""Maps each cell to its test episodes as stored."""


LEARNERS, MODELS = "learners", "models"
"""What is compared: learners, over seeds and episodes, or models trained with one seed."""
FLOOR = "floor"
"""Kind of a standing without a rank, as nothing was trained."""


@dataclass(frozen=True)
class Standing:
    """One learner in one setting: its score, and half-widths of 95 % intervals.

    ``best`` and ``worst`` bound its rank: 1 + the number of others that are significantly better,
    and the number of all minus the number of those significantly worse. If ``of`` is learners, they
    are ranks among the learners; if it is models, among all the models trained. A floor has no
    rank: both are 0.
    """

    label: str
    of: str
    best: int
    worst: int
    episodes: int
    seeds: int
    score: float
    ci95_episodes: float
    ci95_seeds_and_episodes: float | None
    ci95_classes: float | None
    loss: float | None
    brier: float | None
    ece: float | None

    @property
    def rank(self) -> str:
        """The rank as text, e.g. 1, 1–2, or model 1–2."""
        if self.of == FLOOR:
            return FLOOR
        return self._ranks if self.of == LEARNERS else f"model {self._ranks}"

    @property
    def short_rank(self) -> str:
        """The short rank, e.g. 1–2, or (1–2) for a model."""
        return self._ranks if self.of == LEARNERS else f"({self._ranks})"

    @property
    def _ranks(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"

    @property
    def half(self) -> float:
        """95 % half-width over seeds and episodes, or for one model over episodes."""
        both = self.ci95_seeds_and_episodes
        return self.ci95_episodes if both is None else both


@dataclass(frozen=True)
class Pair:
    """Two learners compared on the same episodes, the one with the higher mean first.

    ``difference`` and the half-widths of its 95 % intervals are in points of the score, or those of
    `Metric.merits`: positive if the first is better, logarithms of a logarithmic metric. ``p``
    belongs to the interval of `half`; ``p_corrected`` is corrected for all pairs of the setting,
    and so is ``p_beyond``, for a difference of `margin` or more. The other fields are about single
    runs, as in `bench.stats.intervals`.
    """

    first: str
    second: str
    of: str
    difference: float
    ci95_episodes: float
    ci95_seeds_and_episodes: float | None
    ci95_classes: float | None
    p: float
    p_corrected: float
    margin: float
    p_beyond: float
    first_better: float
    effect_size: float
    effect_low: float
    effect_high: float
    episodes_to_separate: float

    @property
    def half(self) -> float:
        """95 % half-width over seeds and episodes, or for two models over episodes."""
        both = self.ci95_seeds_and_episodes
        return self.ci95_episodes if both is None else both

    @property
    def significant(self) -> bool:
        """Whether the learners (or the two models) differ significantly."""
        return self.p_corrected < LEVEL

    @property
    def better(self) -> bool:
        """Whether the first is a significantly better learner than the second."""
        return self.of == LEARNERS and self.significant

    @property
    def equivalent(self) -> bool:
        """Whether they differ by less than the margin."""
        return self.p_beyond < LEVEL


@dataclass(frozen=True)
class Leaderboard:
    """One setting of one comparison: standings ordered by rank, then by mean, and all pairs.

    Ranks need not follow means: a learner may be worse than one that is tied with others below it.
    ``floors`` are measured on the same episodes and are in no pair.
    """

    comparison: Comparison
    setting: str
    standings: list[Standing]
    pairs: list[Pair]
    floors: Sequence[Standing] = ()

    @property
    def title(self) -> str:
        """Title of the comparison and its setting."""
        return f"{self.comparison.title}, {self.setting}"

    @property
    def place(self) -> str:
        """Data set, ways and shots."""
        return self.comparison.place(self.setting)

    @property
    def unit(self) -> str:
        """What intervals and tests are over, beside seeds: episodes, or the user's photographs."""
        return tested_on(self.comparison.rows[0])[1]

    @property
    def winners(self) -> list[str]:
        """Learners that no other is significantly better than; empty with one seed each."""
        return [each.label for each in self.standings if each.of == LEARNERS and each.best == 1]


def leaderboards(
    records: Iterable[Row], episodes: Episodes, margin: float = MARGIN
) -> list[Leaderboard]:
    """Return one leaderboard per setting and protocol, without failed cells.

    Learners are equivalent if they differ by less than ``margin`` points.
    """
    return [
        _leaderboard(
            comparison,
            setting,
            {x: rows for x in comparison.labels if (rows := comparison.at(x, setting))},
            episodes,
            margin,
        )
        for comparison in comparisons(done(with_labels(with_scores(records, episodes))), SCORE)
        for setting in comparison.settings
    ]


def standings_table(boards: Iterable[Leaderboard]) -> pd.DataFrame:
    """Return one row per learner and setting, with its cells: the key of accuracy.csv."""
    rows = [
        {**_place(board), **_runs(board, entry.label), "rank": entry.rank, **asdict(entry)}
        for board in boards
        for entry in [*board.standings, *board.floors]
    ]
    keys = ("algo", "seed_numbers", "cells", "rank")
    return pd.DataFrame(rows, columns=[*PLACE, *keys, *(f.name for f in fields(Standing))])


def pairs_table(boards: Iterable[Leaderboard]) -> pd.DataFrame:
    """Return one row per pair of learners and setting, with the cells of both."""
    rows = [
        {
            **_place(board),
            **{
                f"{which}_{fact}": value
                for which in ("first", "second")
                for fact, value in _runs(board, getattr(pair, which)).items()
            },
            **asdict(pair),
        }
        for board in boards
        for pair in board.pairs
    ]
    keys = [
        f"{w}_{fact}" for w in ("first", "second") for fact in ("algo", "seed_numbers", "cells")
    ]
    return pd.DataFrame(rows, columns=[*PLACE, *keys, *(f.name for f in fields(Pair))])


def _place(board: Leaderboard) -> Row:
    """Return the columns that all rows of a board share."""
    row = next(row for row in board.comparison.rows if row["setting"] == board.setting)
    shared = {fact: row[fact] for fact in PLACE[3:]}
    metric = board.comparison.metric.name
    return {
        "comparison": board.comparison.title,
        "metric": metric,
        "setting": board.setting,
        **shared,
    }


def _runs(board: Leaderboard, label: str) -> Row:
    """Return the algorithm, seeds and cells of a learner; several are separated by spaces."""
    floors = [row for row in board.comparison.floors_at(board.setting) if row["label"] == label]
    rows = floors or board.comparison.at(label, board.setting)
    return {
        "algo": rows[0]["algo"],
        "seed_numbers": " ".join(str(row["seed"]) for row in rows),
        "cells": " ".join(row["cell"] for row in rows),
    }


def _leaderboard(
    comparison: Comparison,
    setting: str,
    learners: Mapping[str, list[Row]],
    episodes: Episodes,
    margin: float,
) -> Leaderboard:
    tested = {label: _scores(rows, episodes) for label, rows in learners.items()}
    classes = _classes([episodes[row["cell"]] for rows in learners.values() for row in rows])
    of_learners = {label for label, rows in learners.items() if of_learner(rows)}
    if len(of_learners) == 1 < len(learners):
        of_learners = set()  # a single learner has nothing to be compared with
    metric = comparison.metric
    merits = {label: metric.merits(scores) for label, scores in tested.items()}
    by_mean = sorted(merits, key=lambda label: -merits[label].mean())
    pairs = _pairs(
        {label: merits[label] for label in by_mean}, of_learners, classes, margin, metric
    )
    standings = []
    for label in by_mean:
        of = LEARNERS if label in of_learners else MODELS
        among = of_learners if label in of_learners else set(learners)
        counted = [pair for pair in pairs if pair.significant and pair.of == of]
        best = 1 + sum(pair.second == label for pair in counted)
        worst = len(among) - sum(pair.first == label for pair in counted)
        standings.append(_standing(label, of, best, worst, learners[label], tested[label], classes))
    standings.sort(key=lambda entry: (entry.of, entry.best, entry.worst))
    floors = [
        _standing(row["label"], FLOOR, 0, 0, [row], _scores([row], episodes), classes)
        for row in comparison.floors_at(setting)
    ]
    return Leaderboard(comparison, setting, standings, pairs, floors)


def _scores(rows: Sequence[Row], episodes: Episodes) -> NDArray[np.float64]:
    """Return the scores of one learner, [S, E] over seeds and episodes."""
    return np.stack([episodes[row["cell"]]["score"].to_numpy(float) for row in rows])


def _standing(
    label: str,
    of: str,
    best: int,
    worst: int,
    rows: Sequence[Row],
    tested: NDArray[np.float64],
    classes: intervals.ClassDesign | None,
) -> Standing:
    seeds, episodes = tested.shape
    score, half = interval(rows[0], tested.mean(0))
    runs = tested if seeds > 1 else tested[0]
    return Standing(
        label,
        of,
        best,
        worst,
        episodes,
        seeds,
        score,
        half,
        intervals.estimate([runs]).half if seeds > 1 else None,
        intervals.estimate([runs], classes=classes).half if classes is not None else None,
        _mean(rows, "loss"),
        _mean(rows, "brier"),
        _mean(rows, "ece"),
    )


def _pairs(
    tested: Mapping[str, NDArray[np.float64]],
    of_learners: Collection[str],
    classes: intervals.ClassDesign | None,
    margin: float,
    metric: Metric,
) -> list[Pair]:
    chosen = list(combinations(tested, 2))
    of = [LEARNERS if {*pair} <= {*of_learners} else MODELS for pair in chosen]
    models = {label: each.mean(0) for label, each in tested.items()}
    runs = {label: each if len(each) > 1 else each[0] for label, each in tested.items()}
    compared = [
        [(runs if kind == LEARNERS else models)[label] for label in pair]
        for pair, kind in zip(chosen, of, strict=True)
    ]
    found = [intervals.estimate(both, (1, -1)) for both in compared]
    corrected = intervals.holm([each.p for each in found])
    beyond = intervals.holm([each.p_beyond(metric.margin(margin)) for each in found])
    pairs = []
    for i, (a, b) in enumerate(chosen):
        difference, half = found[i].mean, found[i].half
        spread = intervals.spread_of_runs(tested[a], tested[b])
        effect, low, high = (
            intervals.effect_size(x, spread)
            for x in (difference, difference - half, difference + half)
        )
        pairs.append(
            Pair(
                a,
                b,
                of[i],
                difference,
                intervals.estimate([models[a], models[b]], (1, -1)).half,
                half if of[i] == LEARNERS else None,
                None if classes is None else intervals.estimate(compared[i], (1, -1), classes).half,
                found[i].p,
                corrected[i],
                margin,
                beyond[i],
                intervals.superiority(tested[a], tested[b]),
                effect,
                low,
                high,
                intervals.episodes_to_separate(effect),
            )
        )
    return pairs


def _classes(tested: Sequence[pd.DataFrame]) -> intervals.ClassDesign | None:
    """Return the design of the class groups of runs of the same episodes.

    It is None if no run stores groups, as of photographs, or if the episodes do not differ in
    theirs, see `bench.stats.intervals.ClassDesign.of`.
    """
    groups = next((each["groups"] for each in tested if "groups" in each), None)
    if groups is None:
        return None
    return intervals.ClassDesign.of(np.array([text.split() for text in groups], dtype=np.int64))


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return float(np.mean(values)) if values else None
