"""Trained learners under other conditions: tables and a figure of the results of `bench.probe`."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.drawing import (
    Style,
    finish,
    house_style,
    labels_of,
    legend,
    new_figure,
    panel_title,
    score_axis,
    styles,
)
from bench.report.rows import SCORE, Comparison, Row, comparisons, done, row_order, with_labels
from bench.report.tables import ABSENT, Table, joined

Trials = Mapping[str, pd.DataFrame]
"""Maps each cell to its probe results, rows of `bench.runs.probe.Trial`."""

STATISTICS = {
    "running": "running averages",
    "support": "support set",
    "support_and_query": "support and the query",
    "query": "the query alone",
    "all_queries": "all queries",
}
AXES = {"steps": "Inner steps at test", "shots": "Shots at test", "ways": "Ways at test"}
LEADING = ["algo", "dataset", "ways", "shots", "seed", "cell"]
TRANSDUCTION_NOTE = (
    "Accuracy (%) of one trained model by whose images normalise a query in batch norm; in bold as in "
    "the other tables. *All queries* is transductive: a prediction depends on the other queries of its "
    "episode. Gap: that less the bold one, in points."
)
BANDS_NOTE = (
    "Bands: 95 % interval over test episodes of one trained model, or the range of several seeds, "
    "at the values that all of those were tried at."
)


def trials_table(records: Iterable[Row], trials: Trials) -> pd.DataFrame | None:
    """Return one row per cell and probe result; None if no run was probed."""
    frames = [
        pd.concat([pd.DataFrame([{k: row[k] for k in LEADING}] * len(each)), each], axis=1)
        for row in sorted(done(records), key=row_order)
        if (each := trials.get(row["cell"])) is not None
    ]
    return pd.concat(frames, ignore_index=True) if frames else None


def transduction_markdown(records: Iterable[Row], trials: Trials) -> str | None:
    """Return Markdown of accuracy by batch-norm statistics; None if nothing was probed."""
    return joined(transduction_tables(records, trials)) or None


def transduction_tables(records: Iterable[Row], trials: Trials) -> list[Table]:
    """Return tables of accuracy by batch-norm statistics, one per probed setting."""
    tables = []
    for comparison, setting in probed(records, trials, "norm_statistics"):
        lines = []
        for label in comparison.labels:
            seeds = trials_of(comparison, label, setting, trials, "norm_statistics")
            if seeds:
                own = _own_statistics(comparison.at(label, setting)[0])
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


def figures(records: Iterable[Row], trials: Trials) -> dict[str, Figure | None]:
    """Return all figures by name, None if nothing was probed."""
    return {"adaptation": adaptation(list(records), trials)}


@house_style
def adaptation(records: Sequence[Row], trials: Trials) -> Figure | None:
    """Draw test scores of the trained learners against inner steps, shots and ways."""
    panels = [
        (comparison, setting, varied)
        for varied in AXES
        for comparison, setting in probed(records, trials, varied)
    ]
    if not panels:
        return None
    found = [comparison for comparison, _, _ in panels]
    looks = styles(chain.from_iterable(c.rows for c in found), found)
    figure, axes = new_figure(len(panels), 2, 7.2 if len(panels) > 1 else 4.8, 2.4)
    for ax, (comparison, setting, varied) in zip(axes, panels, strict=True):
        values: set[int] = set()
        for label in comparison.labels:
            seeds = trials_of(comparison, label, setting, trials, varied)
            if seeds:
                values |= set(spread(seeds)["value"])
                _line(ax, seeds, looks[label])
        ax.set_xscale("log")
        ax.set_xticks(sorted(values), [str(value) for value in sorted(values)])
        ax.minorticks_off()
        score_axis(ax, comparison.metric)
        ax.set_xlabel(AXES[varied])
        ax.grid()
        ax.set_title(panel_title(comparison, f"trained for {setting}"))
    legend(figure, [Line2D([], [], label=x, **looks[x].line()) for x in labels_of(found)])
    finish(figure, f"Log scale. {BANDS_NOTE}", found)
    return figure


def _line(ax: Axes, seeds: Sequence[pd.DataFrame], look: Style) -> None:
    found = spread(seeds)
    ax.fill_between(
        found["value"], found["low"], found["high"], color=look.colour, alpha=0.2, linewidth=0
    )
    ax.plot(found["value"], found["score"], **look.line())


def spread(seeds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean score by value with low and high.

    These are the 95 % interval of one seed, or the range of several.
    """
    tried = pd.concat(seeds).assign(value=lambda table: table["value"].astype(int))
    found = tried.groupby("value", as_index=False).agg(
        score=("score", "mean"),
        low=("score", "min"),
        high=("score", "max"),
        ci95=("ci95", "mean"),
    )
    if len(seeds) == 1:
        found["low"] = found["score"] - found["ci95"]
        found["high"] = found["score"] + found["ci95"]
    return found


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


def _own_statistics(row: Row) -> str:
    """Return the batch-norm statistics that the row was tested with."""
    result: str = row.get("norm_statistics") or row["algo_options"].get(
        "norm_statistics", "running"
    )
    return result


def _cell(value: float | None, own: bool) -> str:
    if value is None:
        return ABSENT
    return f"**{value:.1f}**" if own else f"{value:.1f}"


def _count(episodes: Iterable[int]) -> str:
    return " or ".join(str(each) for each in sorted(episodes))
