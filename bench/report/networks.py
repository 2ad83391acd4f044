"""Learners by networks: the same test episodes, seen through several backbones."""

from collections.abc import Iterable, Sequence

from bench.report.rows import (
    PRETRAINED,
    SCORE,
    Row,
    comparisons,
    done,
    is_floor,
    network_name,
    score,
    with_labels,
)
from bench.report.tables import ABSENT, Table
from bench.tasks.base import Metric

NOTE = (
    "Each column is a network on the same test episodes, pretrained or trained from scratch; **bold**: "
    "the best of a line. Networks are not ranked: what they were trained on differs, and may hold the "
    "test classes."
)


def network_tables(records: Iterable[Row]) -> list[Table]:
    """Return a table for each setting in which learners were tested on several networks."""
    rows = [
        row | dict.fromkeys(PRETRAINED, "any") | {"network": network_name(row)}
        for row in done(records)
        if not is_floor(row)
    ]
    tables = []
    for comparison in comparisons(with_labels(rows), SCORE):
        for setting in comparison.settings:
            each = [(label, comparison.at(label, setting)) for label in comparison.labels]
            networks = sorted({row["network"] for _, of in each for row in of})
            if len(networks) > 1:
                lines = [_line(label, of, networks, comparison.metric) for label, of in each if of]
                title = f"{comparison.title}, {setting}, {comparison.metric.axis()}"
                headers = ["Learner", *networks]
                tables.append(Table(title, headers, lines, NOTE, comparison.place(setting)))
    return tables


def _line(label: str, rows: Sequence[Row], networks: Sequence[str], metric: Metric) -> list[str]:
    """Return the scores of a learner on each network as text, the best of them in bold."""
    found = {
        network: score(of)
        for network in networks
        if (of := [row for row in rows if row["network"] == network])
    }
    texts = {network: metric.number(each.mean, each.half) for network, each in found.items()}
    if len(found) > 1:
        best = list(found)[metric.best([each.mean for each in found.values()])]
        texts[best] = f"**{texts[best]}**"
    return [label, *(texts.get(network, ABSENT) for network in networks)]
