"""Cost and outcome of hyperparameter tuning."""

from collections.abc import Iterable

from bench.report.rows import SCORE, Row, comparisons, done, with_labels
from bench.report.tables import Table, duration

HEADERS = [
    *("Learner", "setting", "trials", "stopped early", "failed", "images", "training"),
    *("first (%)", "best (%)", "chosen"),
]
NOTE = (
    "What all trials together were trained for, without validations, on top of the training of each row. "
    "First and best: "
    "validation accuracy of the trial with the options that the learner comes with and of the best one, "
    "which is flattered, being the best of many. All seeds of a learner share its trials, none of which "
    "saw a test episode."
)


def tuning_tables(records: Iterable[Row]) -> list[Table]:
    """Return one line per study, one table per data set and budget."""
    tuned = [row for row in done(with_labels(records)) if row.get("tuned")]
    tables = []
    for comparison in comparisons(tuned, SCORE):
        lines = []
        for label in comparison.labels:
            for setting in comparison.settings:
                studies = {row["tuned"]["study"]: row for row in comparison.at(label, setting)}
                lines += [_line(row) for row in studies.values()]
        title = f"Tuning on {comparison.title}"
        tables.append(Table(title, HEADERS, lines, NOTE))
    return tables


def _line(row: Row) -> list[str]:
    tuned = row["tuned"]
    chosen = (f"{key.partition('.')[2]} {value:.3g}" for key, value in tuned["options"].items())
    return [
        row["label"],
        row["setting"],
        *(f"{tuned[fact]:,}" for fact in ("n_trials", "stopped", "failed", "examples")),
        duration(tuned["seconds"]),
        *(f"{tuned[fact]:.1f}" for fact in ("first", "best")),
        ", ".join(chosen),
    ]
