"""Test scores against what learners cost."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from bench.report.figures.description import Figure, Line, Points
from bench.report.figures.parts import (
    around,
    heights,
    log_axis,
    machine,
    note,
    panel,
    score_axis,
    settings_of,
)
from bench.report.figures.styles import BEST, Style, styles
from bench.report.rows import (
    ALL_FACTS,
    Row,
    comparisons,
    done,
    interval_note,
    is_timed,
    phase_throughput,
    score,
    with_labels,
)
from bench.report.tables import adapting, number, train_time
from bench.tasks.base import Metric

SPEED = "Training (examples per s)"
COSTS: dict[str, Callable[[Sequence[Row]], float | None]] = {
    SPEED: lambda rows: phase_throughput(rows, "train", "examples_per_s"),
    "Training (s)": lambda rows: (
        statistics.fmean(row["train_seconds"] for row in rows)
        if all(is_timed(row) for row in rows)
        else None
    ),
    "Adapting (ms per task)": lambda rows: adapting(rows),
}
"""What a learner takes, from its rows of one setting; None if untimed."""
NOTE = (
    "Log scales. Dotted: the best mean score for so much cost or less; ties count as differences."
)


def score_throughput(records: Iterable[Row]) -> Figure:
    """Show test scores against training speed and time, and the time to adapt to a task."""
    rows = with_labels(records)
    found = comparisons(done(rows), ALL_FACTS)
    looks = styles(rows, found)
    panels = []
    for comparison, setting in settings_of(found):
        metric = comparison.metric
        for axis, cost_of in COSTS.items():
            points = [
                _point(label, looks[label], cost, seeds, metric)
                for label in comparison.labels
                if (seeds := comparison.at(label, setting)) and (cost := cost_of(seeds))
            ]
            if points:
                several = len(points) > 1 and axis != SPEED
                line = [front([(p.x[0], p.y[0]) for p in points], metric)] if several else []
                x = log_axis(axis, (point.x[0] for point in points))
                y = score_axis(metric, heights(points))
                panels.append(panel(comparison, setting, x, y, [*points, *line]))
    sentences = (NOTE, f"Error bars: {interval_note(found)}.", machine(found))
    return Figure(panels, note(found, *sentences), columns=3, width=7.2)


def _point(label: str, look: Style, cost: float, seeds: Sequence[Row], metric: Metric) -> Points:
    found = score(seeds)
    hover = (
        f"{label}\n{metric.text(found.mean, found.half)}\ntraining {train_time(seeds)}\n"
        f"adapting {number(adapting(seeds))} ms per task"
    )
    ends = around([found.mean], [found.half])
    return Points(label, look, [cost], [found.mean], ends, [hover])


def front(points: Sequence[tuple[float, float]], metric: Metric) -> Line:
    """Return the Pareto front of (cost, score), in steps from cheap to expensive."""
    sign = 1 if metric.higher_is_better else -1
    x: list[float] = []
    y: list[float] = []
    for spent, reached in sorted(points, key=lambda each: (each[0], -sign * each[1])):
        if not y or sign * reached > sign * y[-1]:
            x += [spent, spent] if x else [spent]
            y += [y[-1], reached] if y else [reached]
    dearest = max(spent for spent, _ in points)
    return Line("best for the cost", BEST, [*x, dearest], [*y, y[-1]])
