"""Trained learners at other inner steps, shots and ways."""

from collections.abc import Iterable, Sequence

import pandas as pd

from bench.report.figures.description import Figure, Line
from bench.report.figures.parts import heights, log_axis, note, panel, score_axis
from bench.report.figures.styles import styles
from bench.report.rows import Row, done
from bench.report.trials import Trials, probed, trials_of
from bench.runs.records import tested_on

AXES = {"steps": "Inner steps at test", "shots": "Shots at test", "ways": "Ways at test"}
NOTE = (
    "Bands: 95 % interval over test episodes of one trained model, or the range of several seeds, "
    "at the values that all of those were tried at."
)


def adaptation(records: Iterable[Row], trials: Trials) -> Figure:
    """Show test scores of the trained learners against inner steps, shots and ways."""
    rows = [row for row in done(records) if tested_on(row)[1] == "episodes"]  # see `photographs`
    shown = [(varied, *each) for varied in AXES for each in probed(rows, trials, varied)]
    found = [comparison for _, comparison, _ in shown]
    looks = styles((row for comparison in found for row in comparison.rows), found)
    panels = []
    for varied, comparison, setting in shown:
        metric, lines = comparison.metric, []
        for label in comparison.labels:
            if seeds := trials_of(comparison, label, setting, trials, varied):
                tried = spread(seeds)
                x, y, low, high = (list(tried[key]) for key in ("value", "score", "low", "high"))
                hover = [
                    f"{label}\n{metric.text(mean)}\n{metric.number(least)} to {metric.text(most)}"
                    for mean, least, most in zip(y, low, high, strict=True)
                ]
                lines.append(Line(label, looks[label], x, y, (low, high), hover))
        x_axis = log_axis(
            f"{AXES[varied]} (log scale)", (), at={int(v) for e in lines for v in e.x}
        )
        y_axis = score_axis(metric, heights(lines))
        panels.append(panel(comparison, setting, x_axis, y_axis, lines, "trained for "))
    return Figure(panels, note(found, NOTE), height=2.4)


def spread(seeds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean score by value with low and high.

    These are the 95 % interval of one seed, or the range of several.
    """
    tried = pd.concat(seeds).assign(value=lambda table: table["value"].astype(int))
    found = tried.groupby("value", as_index=False).agg(
        score=("score", "mean"), low=("score", "min"), high=("score", "max"), ci95=("ci95", "mean")
    )
    if len(seeds) == 1:
        found["low"] = found["score"] - found["ci95"]
        found["high"] = found["score"] + found["ci95"]
    return found
