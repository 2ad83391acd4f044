"""Training speed by meta-batch."""

from collections.abc import Iterable

from bench.report.figures.description import Figure, Line
from bench.report.figures.parts import log_axis, machine, note, panel
from bench.report.figures.styles import styles
from bench.report.rows import Row, saturation
from bench.report.tables import number


def throughput_meta_batch(records: Iterable[Row]) -> Figure:
    """Show training speed against meta-batch size, where a learner was timed at several."""
    drawn = saturation(records)
    found = [comparison for comparison, _, _ in drawn]
    looks = styles((row for comparison in found for row in comparison.rows), found)
    panels = []
    for comparison, setting, rates in drawn:
        lines = [
            Line(
                label,
                looks[label],
                list(each),
                list(each.values()),
                hover=[
                    f"{label}\nmeta-batch {size}\n{number(rate)} tasks/s"
                    for size, rate in each.items()
                ],
            )
            for label, each in rates.items()
        ]
        x = log_axis("Meta-batch (tasks, log scale)", (), at={s for e in rates.values() for s in e})
        y = log_axis(
            "Training, tasks per second (log scale)",
            (v for e in rates.values() for v in e.values()),
        )
        panels.append(panel(comparison, setting, x, y, lines))
    return Figure(panels, note(found, machine(found)))
