"""Who is better than whom, and how sure that is: paired on the episodes that all have in common."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench import stats
from bench.report.rows import (
    ACCURACY,
    Comparison,
    Row,
    comparisons,
    done,
    labelled,
    of_learner,
    with_accuracies,
)

LEVEL = 0.05
"""Differences with a corrected p below it count; all others are ties."""
MARGIN = 1.0
"""Points of accuracy within which learners are as good as equal, where nothing else is asked for."""

PLACE = ("comparison", "setting", "dataset", "ways", "shots", "episodes_digest")

Episodes = Mapping[str, pd.DataFrame]
"""By cell, its test episodes as stored."""


LEARNERS, MODELS = "learners", "models"
"""What a comparison is of: learners, over seeds and episodes, or models trained with one seed."""
FLOOR = "floor"
"""What a standing is of that has no rank, as nothing was trained."""


@dataclass(frozen=True)
class Standing:
    """One learner in one setting. Accuracies and half-widths of 95 % intervals are in percent.

    ``best`` and ``worst`` are the ranks that it may have: 1 + the number of others that are
    significantly better, and the number of all less that of those significantly worse. Where ``of`` is
    learners, they are among the learners; where it is models, among all the models trained. A floor has
    no rank: both are 0.
    """

    label: str
    of: str
    best: int
    worst: int
    episodes: int
    seeds: int
    accuracy: float
    half_episodes: float
    half_seeds_and_episodes: float | None
    half_classes: float | None
    loss: float | None
    brier: float | None
    ece: float | None

    @property
    def rank(self) -> str:
        """Such as 1, 1–2, or model 1–2."""
        if self.of == FLOOR:
            return FLOOR
        return self._ranks if self.of == LEARNERS else f"model {self._ranks}"

    @property
    def short_rank(self) -> str:
        """Such as 1–2, or (1–2) of a model."""
        return self._ranks if self.of == LEARNERS else f"({self._ranks})"

    @property
    def _ranks(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"

    @property
    def half(self) -> float:
        """The 95 % interval for other seeds and episodes, or of one model for other episodes."""
        both = self.half_seeds_and_episodes
        return self.half_episodes if both is None else both


@dataclass(frozen=True)
class Pair:
    """Two learners, the one of the higher mean first, compared on the same episodes.

    ``difference`` and the half-widths of its 95 % intervals are in points of accuracy. ``p`` is that of
    the interval of `half`, ``p_corrected`` among the pairs of the setting, likewise ``p_beyond`` of a
    difference of `margin` or more. The rest is of single runs, as in `bench.stats`.
    """

    first: str
    second: str
    of: str
    difference: float
    half_episodes: float
    half_seeds_and_episodes: float | None
    half_classes: float | None
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
        """The 95 % interval for other seeds and episodes, or of two models for other episodes."""
        both = self.half_seeds_and_episodes
        return self.half_episodes if both is None else both

    @property
    def significant(self) -> bool:
        """Whether the learners, or else the two models, differ."""
        return self.p_corrected < LEVEL

    @property
    def better(self) -> bool:
        """Whether the first is a better learner than the second."""
        return self.of == LEARNERS and self.significant

    @property
    def equivalent(self) -> bool:
        """Whether they differ by less than the margin."""
        return self.p_beyond < LEVEL


@dataclass(frozen=True)
class Leaderboard:
    """One setting of one comparison: standings in the order of rank, then of mean, and all pairs.

    Ranks need not follow means: a learner may be worse than one that is tied with others below it.
    ``floors`` are on the same episodes, and in no pair. ``grouped`` says whether intervals over classes
    are over the groups of alike ones.
    """

    comparison: Comparison
    setting: str
    standings: list[Standing]
    pairs: list[Pair]
    floors: Sequence[Standing] = ()
    grouped: bool = False

    @property
    def title(self) -> str:
        return f"{self.comparison.title}, {self.setting}"

    @property
    def place(self) -> str:
        """The data set, ways and shots."""
        return self.comparison.place(self.setting)

    @property
    def winners(self) -> list[str]:
        """The learners that none is significantly better than; none where one seed each was run."""
        return [each.label for each in self.standings if each.of == LEARNERS and each.best == 1]


def leaderboards(
    records: Iterable[Row], episodes: Episodes, margin: float = MARGIN
) -> list[Leaderboard]:
    """One for each setting under each protocol; failed cells have no place in it.

    Learners are equivalent where they differ by less than ``margin`` points.
    """
    return [
        _leaderboard(
            comparison,
            setting,
            {x: rows for x in comparison.labels if (rows := comparison.at(x, setting))},
            episodes,
            margin,
        )
        for comparison in comparisons(done(labelled(with_accuracies(records, episodes))), ACCURACY)
        for setting in comparison.settings
    ]


def standings_table(boards: Iterable[Leaderboard]) -> pd.DataFrame:
    """One row a learner and setting, with the cells that it is of: the key of accuracy.csv."""
    rows = [
        {**_place(board), **_runs(board, entry.label), "rank": entry.rank, **asdict(entry)}
        for board in boards
        for entry in [*board.standings, *board.floors]
    ]
    keys = ("algo", "seed_numbers", "cells", "rank")
    return pd.DataFrame(rows, columns=[*PLACE, *keys, *(f.name for f in fields(Standing))])


def pairs_table(boards: Iterable[Leaderboard]) -> pd.DataFrame:
    """One row a pair of learners and setting, with the cells of both."""
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
    """What all rows of a board share."""
    row = next(row for row in board.comparison.rows if row["setting"] == board.setting)
    shared = {fact: row[fact] for fact in PLACE[2:]}
    return {"comparison": board.comparison.title, "setting": board.setting, **shared}


def _runs(board: Leaderboard, label: str) -> Row:
    """The algorithm, seeds and cells of a learner; several are parted by spaces."""
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
    tested = {label: _accuracies(rows, episodes) for label, rows in learners.items()}
    classes, grouped = _classes(
        [episodes[row["cell"]] for rows in learners.values() for row in rows]
    )
    of_learners = {label for label, rows in learners.items() if of_learner(rows)}
    if len(of_learners) == 1 < len(learners):
        of_learners = set()  # it has no other to be compared with
    by_mean = sorted(tested, key=lambda label: -tested[label].mean())
    pairs = _pairs({label: tested[label] for label in by_mean}, of_learners, classes, margin)
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
        _standing(row["label"], FLOOR, 0, 0, [row], _accuracies([row], episodes), classes)
        for row in comparison.floors_at(setting)
    ]
    return Leaderboard(comparison, setting, standings, pairs, floors, grouped)


def _accuracies(rows: Sequence[Row], episodes: Episodes) -> NDArray[np.float64]:
    """Of one learner, [S, E] over seeds and episodes."""
    return np.stack([episodes[row["cell"]]["accuracy"].to_numpy(float) for row in rows])


def _standing(
    label: str,
    of: str,
    best: int,
    worst: int,
    rows: Sequence[Row],
    tested: NDArray[np.float64],
    classes: stats.ClassDesign | None,
) -> Standing:
    seeds, episodes = tested.shape
    accuracy, half = stats.mean_ci95(tested.mean(0))
    runs = tested if seeds > 1 else tested[0]
    return Standing(
        label,
        of,
        best,
        worst,
        episodes,
        seeds,
        accuracy,
        half,
        stats.estimate([runs]).half if seeds > 1 else None,
        stats.estimate([runs], classes=classes).half if classes is not None else None,
        _mean(rows, "loss"),
        _mean(rows, "brier"),
        _mean(rows, "ece"),
    )


def _pairs(
    tested: Mapping[str, NDArray[np.float64]],
    of_learners: Collection[str],
    classes: stats.ClassDesign | None,
    margin: float,
) -> list[Pair]:
    chosen = list(combinations(tested, 2))
    of = [LEARNERS if {*pair} <= {*of_learners} else MODELS for pair in chosen]
    models = {label: each.mean(0) for label, each in tested.items()}
    runs = {label: each if len(each) > 1 else each[0] for label, each in tested.items()}
    compared = [
        [(runs if kind == LEARNERS else models)[label] for label in pair]
        for pair, kind in zip(chosen, of, strict=True)
    ]
    found = [stats.estimate(both, (1, -1)) for both in compared]
    corrected = stats.holm([each.p for each in found])
    beyond = stats.holm([each.p_beyond(margin) for each in found])
    pairs = []
    for i, (a, b) in enumerate(chosen):
        difference, half = found[i].mean, found[i].half
        spread = stats.spread_of_runs(tested[a], tested[b])
        effect, low, high = (
            stats.effect_size(x, spread) for x in (difference, difference - half, difference + half)
        )
        pairs.append(
            Pair(
                a,
                b,
                of[i],
                difference,
                stats.estimate([models[a], models[b]], (1, -1)).half,
                half if of[i] == LEARNERS else None,
                None if classes is None else stats.estimate(compared[i], (1, -1), classes).half,
                found[i].p,
                corrected[i],
                margin,
                beyond[i],
                stats.superiority(tested[a], tested[b]),
                effect,
                low,
                high,
                stats.episodes_to_separate(effect),
            )
        )
    return pairs


def _classes(tested: Sequence[pd.DataFrame]) -> tuple[stats.ClassDesign | None, bool]:
    """The design of the groups of classes, from runs of the same episodes, and whether they have any.

    Without them each class is a group of its own. There is no design where nothing tells of others.
    """
    for column in ("groups", "classes"):
        if runs := [each for each in tested if column in each]:
            texts = [text.split() for text in runs[0][column]]
            return stats.ClassDesign.of(np.array(texts, dtype=np.int64)), column == "groups"
    return None, False


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return float(np.mean(values)) if values else None
