"""Trained learners under other conditions: tables of the results of `bench.probe`."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from bench.report.rows import SCORE, Comparison, Row, comparisons, done, row_order, with_labels
from bench.report.tables import ABSENT, Table

Trials = Mapping[str, pd.DataFrame]
"""Maps each cell to its probe results, rows of `bench.runs.probe.Trial`."""

STATISTICS = {
    "running": "running averages",
    "support": "support set",
    "support_and_query": "support and the query",
    "query": "the query alone",
    "all_queries": "all queries",
}
LEADING = ["algo", "dataset", "ways", "shots", "seed", "cell"]
TRANSDUCTION_NOTE = (
    "Accuracy (%) of one trained model by whose images normalise a query in batch norm; in bold as in "
    "the other tables. *All queries* is transductive: a prediction depends on the other queries of its "
    "episode. Gap: that less the bold one, in points."
)


def trials_table(records: Iterable[Row], trials: Trials) -> pd.DataFrame | None:
    """Return one row per cell and probe result; None if no run was probed."""
    frames = [
        pd.concat([pd.DataFrame([{k: row[k] for k in LEADING}] * len(each)), each], axis=1)
        for row in sorted(done(records), key=row_order)
        if (each := trials.get(row["cell"])) is not None
    ]
    return pd.concat(frames, ignore_index=True) if frames else None


def transduction_tables(records: Iterable[Row], trials: Trials) -> list[Table]:
    """Return tables of accuracy by batch-norm statistics, one per probed setting."""
    tables = []
    for comparison, setting in probed(records, trials, "norm_statistics"):
        lines = []
        for label in comparison.labels:
            seeds = trials_of(comparison, label, setting, trials, "norm_statistics")
            if seeds:
                own = comparison.at(label, setting)[0]["norm_statistics"]
                means = _means(seeds)
                cells = [_cell(means.get(choice), choice == own) for choice in STATISTICS]
                gap = ABSENT
                if {"all_queries", own} <= set(means):
                    gap = f"{means['all_queries'] - means[own]:+.1f}"
                lines.append([label, *cells, gap])
        episodes = {int(n) for each in trials.values() for n in each["episodes"]}
        note = f"{TRANSDUCTION_NOTE} {_count(episodes)} test episodes."
        title, place = f"{comparison.title}, {setting}", comparison.place(setting)
        headers = ["Learner", *STATISTICS.values(), "gap"]
        tables.append(Table(title, headers, lines, note, place))
    return tables


def probed(records: Iterable[Row], trials: Trials, varied: str) -> list[tuple[Comparison, str]]:
    """Return comparisons and settings with probe results in which ``varied`` was varied."""
    return [
        (comparison, setting)
        for comparison in comparisons(done(with_labels(records)), SCORE)
        for setting in comparison.settings
        if any(trials_of(comparison, x, setting, trials, varied) for x in comparison.labels)
    ]


def trials_of(
    comparison: Comparison, label: str, setting: str, trials: Trials, varied: str
) -> list[pd.DataFrame]:
    """Return a learner's probe results for ``varied``, one frame per seed, at the shared values."""
    frames = [
        each[each["varied"] == varied]
        for row in comparison.at(label, setting)
        if (each := trials.get(row["cell"])) is not None
    ]
    frames = [frame for frame in frames if len(frame)]
    shared = set.intersection(*(set(frame["value"]) for frame in frames)) if frames else set()
    return [frame[frame["value"].isin(shared)] for frame in frames] if shared else []


def _means(seeds: Sequence[pd.DataFrame]) -> dict[str, float]:
    joined = pd.concat(seeds).groupby("value")["score"].mean()
    return {str(value): float(mean) for value, mean in joined.items()}


def _cell(value: float | None, own: bool) -> str:
    if value is None:
        return ABSENT
    return f"**{value:.1f}**" if own else f"{value:.1f}"


def _count(episodes: Iterable[int]) -> str:
    return " or ".join(str(each) for each in sorted(episodes))
