"""Tasks per second of training, adaptation and inference."""

from collections.abc import Iterable

from bench.report.figures.description import Figure
from bench.report.figures.parts import (
    Bar,
    bars,
    log_bar_axis,
    machine,
    note,
    panel,
    settings_of,
    short,
)
from bench.report.figures.styles import styles
from bench.report.rows import THROUGHPUT, Row, comparisons, done, phase_throughput, with_labels
from bench.report.tables import PHASES, number


def throughput(records: Iterable[Row]) -> Figure:
    """Show tasks per second as bars on a log scale, which is the same for all panels."""
    rows = with_labels(records)
    found = comparisons((row for row in done(rows) if row.get("throughput")), THROUGHPUT)
    looks = styles(rows, found)
    drawn = []
    for comparison, setting in settings_of(found):
        rates = {
            label: {
                phase: Bar(
                    rate,
                    0.0,
                    short(float(f"{rate:.3g}")),
                    f"{label}\n{phase}\n{number(rate)} tasks/s",
                )
                for phase in PHASES
                if (rate := phase_throughput(comparison.at(label, setting), phase))
            }
            for label in comparison.labels
        }
        drawn.append((comparison, setting, *bars(PHASES, rates, looks)))
    values = [rate for _, _, _, each in drawn for series in each for rate in series.y]
    y = log_bar_axis("Tasks per second (log scale)", values)
    panels = [panel(comparison, setting, x, y, each) for comparison, setting, x, each in drawn]
    most = max((len(PHASES) * len(comparison.labels) for comparison in found), default=0)
    columns, width = (1, max(7.2, 0.2 * most)) if most > 24 else (2, None)
    return Figure(panels, note(found, machine(found)), columns, 2.4, width)
