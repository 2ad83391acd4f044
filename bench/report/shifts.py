"""Transfer of trained learners to other data sets: results of `bench.probe` with datasets=...

They are shown as tables and a figure.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.report.drawing import (
    INK,
    bar_axis,
    finish,
    house_style,
    labels_of,
    legend,
    new_figure,
    panel_title,
    styles,
    write_value,
)
from bench.report.plots import bar_places, group_pitch
from bench.report.rows import (
    SCORE,
    Comparison,
    Row,
    Score,
    comparisons,
    done,
    row_order,
    score,
    with_labels,
)
from bench.report.tables import ABSENT, Table, joined

Shifts = Mapping[str, pd.DataFrame]
"""Maps each cell to its tests on other data sets, rows of `bench.runs.transfer.Shift`."""

COLUMNS = [
    *("algo", "trained_on", "tested_on", "ways", "shots", "queries", "seed", "score", "ci95"),
    *("difference", "difference_ci95", "seen", "episodes", "episodes_digest", "data_digest"),
    *("transductive", "cell"),
]
SHIFT_NOTE = (
    "Test scores of the same trained models on the test episodes of other data sets, of the same "
    "ways, shots and queries, their images brought to the shape of those trained on. On one data set, "
    "all learners have the same episodes. ±: 95 % interval over episodes of one trained model, or for "
    "other seeds and episodes where there are several. Difference: that less the score on the "
    "learner's own test set, in points; of two tests on episodes of their own. "
    "Seen: the tested images that training or validation had, to the pixel."
)
BARS_NOTE = (
    "The first group is the test on the data set trained on. Error bars: 95 % interval over episodes of "
    "one trained model, or for other seeds and episodes where there are several. Dashed: chance."
)


class TransferResults(NamedTuple):
    """One learner on one other data set.

    Holds its score, the difference to its own test, and the images seen in training (%).
    """

    score: Score
    difference: Score
    seen: float


def shift_table(records: Iterable[Row], shifts: Shifts) -> pd.DataFrame | None:
    """Return one row per cell and tested data set, its own first; None without tests."""
    lines = []
    for row in sorted(done(records), key=row_order):
        if (tests := shifts.get(row["cell"])) is None:
            continue
        own: Row = {**row, "trained_on": row["dataset"], "tested_on": row["dataset"]}
        lines.append(own)
        test: Any
        for test in tests.to_dict("records"):
            less = _shifted([(row, test)]).difference
            lines.append(
                {
                    **own,
                    **test,
                    "tested_on": test["dataset"],
                    "difference": less.mean,
                    "difference_ci95": less.half,
                }
            )
    return pd.DataFrame(lines, columns=COLUMNS) if lines else None


def shift_markdown(records: Iterable[Row], shifts: Shifts) -> str | None:
    """Return Markdown of learners on other data sets, one table per setting; None without tests."""
    return joined(shift_tables(records, shifts)) or None


def shift_tables(records: Iterable[Row], shifts: Shifts) -> list[Table]:
    """Return tables of learners on other data sets, one per setting with tests."""
    tables = []
    for comparison, setting in transfer_settings(records, shifts):
        lines = []
        own = comparison.rows[0]["dataset"]
        for label, tests in shifted(comparison, setting, shifts).items():
            result = score(comparison.at(label, setting))
            on_own = comparison.metric.number(result.mean, result.half)
            lines.append([label, own, own, on_own, ABSENT, ABSENT])
            for name, test in tests.items():
                difference = f"{test.difference.mean:+.1f} ± {test.difference.half:.1f}"
                seen = f"{test.seen:.1f} %"
                elsewhere = comparison.metric.number(test.score.mean, test.score.half)
                lines.append([label, own, name, elsewhere, difference, seen])
        headers = ["Learner", "trained on", "tested on", "score", "difference", "seen"]
        title, place = f"{comparison.title}, {setting}", comparison.place(setting)
        tables.append(Table(title, headers, lines, SHIFT_NOTE, place))
    return tables


def transfer_settings(records: Iterable[Row], shifts: Shifts) -> list[tuple[Comparison, str]]:
    """Return comparisons and settings in which a learner was tested on another data set."""
    return [
        (comparison, setting)
        for comparison in comparisons(done(with_labels(records)), SCORE)
        for setting in comparison.settings
        if shifted(comparison, setting, shifts)
    ]


def shifted(
    comparison: Comparison, setting: str, shifts: Shifts
) -> dict[str, dict[str, TransferResults]]:
    """Return the results by learner and other data set, over the seeds that were tested there."""
    found: dict[str, dict[str, TransferResults]] = {}
    for label in comparison.labels:
        tests: dict[str, list[tuple[Row, Any]]] = {}
        for row in comparison.at(label, setting):
            if (each := shifts.get(row["cell"])) is not None:
                for test in each.to_dict("records"):
                    tests.setdefault(str(test["dataset"]), []).append((row, test))
        if tests:
            found[label] = {name: _shifted(tests[name]) for name in sorted(tests)}
    return found


def _shifted(pairs: Sequence[tuple[Row, Any]]) -> TransferResults:
    """Return the transfer results from (own test, test elsewhere) of each seed.

    The two tests have independent episodes, so the variances of their means add up.
    """
    differences = [
        {
            "score": test["score"] - own["score"],
            "ci95": math.hypot(own["ci95"], test["ci95"]),
        }
        for own, test in pairs
    ]
    tests = [test for _, test in pairs]
    return TransferResults(score(tests), score(differences), max(test["seen"] for test in tests))


def figures(records: Iterable[Row], shifts: Shifts) -> dict[str, Figure | None]:
    """Return all figures by name, None without tests."""
    return {"shift": shift(list(records), shifts)}


@house_style
def shift(records: Sequence[Row], shifts: Shifts) -> Figure | None:
    """Draw test scores on the learners' own data set and on others, as bars from zero."""
    panels = transfer_settings(records, shifts)
    if not panels:
        return None
    found = list({id(comparison): comparison for comparison, _ in panels}.values())
    looks = styles(chain.from_iterable(c.rows for c in found), found)
    figure, axes = new_figure(len(panels), 1, 7.2, 2.3)
    for ax, (comparison, setting) in zip(axes, panels, strict=True):
        groups = tested_on(comparison, setting, shifts)
        labels = [label for label in comparison.labels if label in next(iter(groups.values()))]
        pitch = group_pitch(len(labels))
        upright = 6.4 * 72 * pitch / max(1.3, len(groups)) < 24
        tops = []
        for x, label, name in bar_places(ax, labels, list(groups), pitch):
            if (result := groups[name].get(label)) is not None:
                ax.bar(x, result.mean, 0.86 * pitch, linewidth=0.8, **looks[label].bar())
                ax.errorbar(x, result.mean, result.half, color=INK, capsize=1.5, linewidth=0.7)
                top, value = result.mean + result.half, comparison.metric.number(result.mean)
                write_value(ax, x, top, value, upright)
                tops += [result.mean, top]
        ways = next(row["ways"] for row in comparison.rows if row["setting"] == setting)
        if ways:
            ax.axhline(100 / ways, color=INK, linestyle=(0, (3, 2)), linewidth=0.9)
        bar_axis(ax, comparison.metric, tops, upright)
        ax.set_title(panel_title(comparison, f"trained for {setting}"))
    keys = [Patch(label=x, linewidth=0.8, **looks[x].bar()) for x in labels_of(found)]
    legend(figure, keys)
    finish(figure, BARS_NOTE, found)
    return figure


def tested_on(comparison: Comparison, setting: str, shifts: Shifts) -> dict[str, dict[str, Score]]:
    """Return scores by data set, the learners' own first, of each learner tested elsewhere."""
    found = shifted(comparison, setting, shifts)
    own = comparison.rows[0]["dataset"]
    groups = {f"{own} (own)": {x: score(comparison.at(x, setting)) for x in found}}
    for name in sorted({name for tests in found.values() for name in tests}):
        groups[name] = {x: tests[name].score for x, tests in found.items() if name in tests}
    return groups
