"""Who is better than whom, and how sure that is: paired on the episodes that all have in common."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench import stats
from bench.report.rows import ACCURACY, Comparison, Row, comparisons, done, labelled

LEVEL = 0.05
"""Differences with a corrected p below it count; all others are ties."""

Episodes = Mapping[str, pd.DataFrame]
"""By cell, its test episodes as stored."""


@dataclass(frozen=True)
class Standing:
    """One learner in one setting. Accuracies and half-widths of 95 % intervals are in percent.

    ``best`` and ``worst`` are the ranks that it may have: 1 + the number of learners that are
    significantly better, and the number of all less that of those significantly worse.
    """

    label: str
    best: int
    worst: int
    episodes: int
    seeds: int
    accuracy: float
    half_episodes: float
    half_classes: float | None
    half_seeds: float | None
    half_seeds_and_episodes: float | None
    loss: float | None
    brier: float | None
    ece: float | None

    @property
    def rank(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"


@dataclass(frozen=True)
class Pair:
    """Two learners, the one of the higher mean first, compared episode by episode.

    ``difference`` and the half-widths of its 95 % intervals are in points of accuracy; the rest is as
    in `bench.stats`, ``p_corrected`` among the pairs of the setting.
    """

    first: str
    second: str
    difference: float
    half_episodes: float
    half_classes: float | None
    half_seeds_and_episodes: float | None
    first_better: float
    effect_size: float
    effect_low: float
    effect_high: float
    p: float
    p_corrected: float
    episodes_to_separate: float

    @property
    def significant(self) -> bool:
        return self.p_corrected < LEVEL


@dataclass(frozen=True)
class Leaderboard:
    """One setting of one comparison: standings from the best mean down, and all pairs."""

    comparison: Comparison
    setting: str
    standings: list[Standing]
    pairs: list[Pair]

    @property
    def title(self) -> str:
        return f"{self.comparison.title}, {self.setting}"

    @property
    def place(self) -> str:
        """The data set, ways and shots."""
        return self.comparison.place(self.setting)

    @property
    def winners(self) -> list[str]:
        """The learners that none is significantly better than."""
        return [standing.label for standing in self.standings if standing.best == 1]


def leaderboards(records: Iterable[Row], episodes: Episodes) -> list[Leaderboard]:
    """One for each setting under each protocol; failed cells have no place in it."""
    return [
        _leaderboard(
            comparison,
            setting,
            {x: rows for x in comparison.labels if (rows := comparison.at(x, setting))},
            episodes,
        )
        for comparison in comparisons(done(labelled(records)), ACCURACY)
        for setting in comparison.settings
    ]


def standings_table(boards: Iterable[Leaderboard]) -> pd.DataFrame:
    """One row a learner and setting."""
    return _table(boards, "standings", Standing)


def pairs_table(boards: Iterable[Leaderboard]) -> pd.DataFrame:
    """One row a pair of learners and setting."""
    return _table(boards, "pairs", Pair)


def _table(boards: Iterable[Leaderboard], part: str, kind: type) -> pd.DataFrame:
    rows = [
        {"comparison": board.comparison.title, "setting": board.setting, **asdict(entry)}
        for board in boards
        for entry in getattr(board, part)
    ]
    return pd.DataFrame(rows, columns=["comparison", "setting", *(f.name for f in fields(kind))])


def _leaderboard(
    comparison: Comparison, setting: str, learners: Mapping[str, list[Row]], episodes: Episodes
) -> Leaderboard:
    tested = {
        label: np.stack([episodes[row["cell"]]["accuracy"].to_numpy(float) for row in rows])
        for label, rows in learners.items()
    }
    classes = _classes(episodes[next(iter(learners.values()))[0]["cell"]])
    ordered = sorted(tested, key=lambda label: -tested[label].mean())
    pairs = _pairs({label: tested[label] for label in ordered}, classes)
    better = {
        label: {p.first for p in pairs if p.significant and p.second == label} for label in ordered
    }
    worse = {
        label: {p.second for p in pairs if p.significant and p.first == label} for label in ordered
    }
    standings = [
        _standing(
            label,
            learners[label],
            tested[label],
            classes,
            1 + len(better[label]),
            len(ordered) - len(worse[label]),
        )
        for label in ordered
    ]
    return Leaderboard(comparison, setting, standings, pairs)


def _standing(
    label: str,
    rows: Sequence[Row],
    tested: NDArray[np.float64],
    classes: NDArray[np.int64] | None,
    best: int,
    worst: int,
) -> Standing:
    """Of one learner with accuracies [S, E] over seeds and episodes."""
    seeds, episodes = tested.shape
    accuracy, half = stats.mean_ci95(tested.mean(0))
    return Standing(
        label,
        best,
        worst,
        episodes,
        seeds,
        accuracy,
        half,
        _over_classes(tested.mean(0), classes),
        stats.half_over_seeds(list(tested.mean(1))) if seeds > 1 else None,
        stats.half_over_seeds_and_episodes(tested) if seeds > 1 else None,
        _mean(rows, "loss"),
        _mean(rows, "brier"),
        _mean(rows, "ece"),
    )


def _pairs(
    tested: Mapping[str, NDArray[np.float64]], classes: NDArray[np.int64] | None
) -> list[Pair]:
    chosen = list(combinations(tested, 2))
    differences = [tested[first].mean(0) - tested[second].mean(0) for first, second in chosen]
    ps = [stats.sign_flip_p(d) for d in differences]
    return [
        Pair(
            first,
            second,
            *stats.mean_ci95(d),
            _over_classes(d, classes),
            _over_seeds_and_episodes(tested[first], tested[second]),
            stats.superiority(d),
            stats.effect_size(d),
            *stats.effect_size_ci95(d),
            p,
            corrected,
            stats.episodes_to_separate(d),
        )
        for (first, second), d, p, corrected in zip(
            chosen, differences, ps, stats.holm(ps), strict=True
        )
    ]


def _over_seeds_and_episodes(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> float | None:
    """Half-width for the difference of accuracies [S, E], seed by seed, where both have several."""
    if len(first) != len(second) or len(first) == 1:
        return None
    return stats.half_over_seeds_and_episodes(first - second)


def _over_classes(values: NDArray[np.float64], classes: NDArray[np.int64] | None) -> float | None:
    return None if classes is None else stats.half_over_classes(values, classes)


def _classes(episodes: pd.DataFrame) -> NDArray[np.int64] | None:
    """The numbers of the classes of each episode [E, N], if they are on record."""
    if "classes" not in episodes:
        return None
    return np.array([text.split() for text in episodes["classes"]], dtype=np.int64)


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return float(np.mean(values)) if values else None
