"""Finished runs evaluated again, and held to what is stored of them."""

from typing import Any

import numpy as np
import pandas as pd

from bench import cell as cells
from bench.cell import Cell, name_of
from bench.evaluate import evaluate
from bench.migrate import SCHEMA
from bench.protocol import card
from bench.running import numbered
from bench.stats import mean_ci95
from bench.stored import parameters

# Facts of a record that do not follow from its configuration and data.
RUN = (
    "device",
    "device_name",
    "threads",
    "processes",
    "launcher",
    "python",
    "torch",
    "version",
    "commit",
    "created",
)
OF_THE_RUN = {"cell", "schema", *RUN}
MOST_FINDINGS = 5


def verify(cell: Cell, name: str) -> list[str]:
    """What does not fit in the stored run ``name``, whose configuration and data make ``cell``."""
    record = cell.store.record(name) or {}
    findings = []
    # a run of an older version has the name that its configuration had then
    written = cell.store.written(name)
    made = name_of(cell.config, cell.dataset, record["device"])
    if written.get("schema") == SCHEMA and made != name:
        findings.append(f"config.yaml is not that of the run, but of {made}")

    learner = cells.build_learner(cell.config, cell.dataset, cell.train_shape.ways).to(cell.device)
    try:
        learner.load_state_dict(parameters(cell.store, name))
    except RuntimeError:
        return [*findings, "checkpoint.pt is that of another learner or backbone"]
    cells.use_arithmetic(cell.config, learner)
    facts = card(cell, learner)
    findings += [
        f"record.json says {key} {record.get(key)!r}, config.yaml and the data {value!r}"
        for key, value in facts.items()
        if key not in OF_THE_RUN and record.get(key) != value
    ]

    pool = cell.dataset.splits["test"].to(cell.device)
    sampler = cells.EpisodeSampler(pool, cell.test_shape, (cell.dataset.digest, "test", "test"))
    count = cell.config.test.episodes
    tested = evaluate(learner, sampler, count, cells.EVALUATED_AT_ONCE[cell.device.type])
    accuracy, ci95 = mean_ci95(tested.accuracy)
    found = {
        "episodes": count,
        "episodes_digest": sampler.digest(count),
        "accuracy": accuracy,
        "ci95": ci95,
    }
    findings += [
        f"record.json says {key} {record.get(key)!r}, now it is {value!r}"
        for key, value in found.items()
        if not _close(record.get(key), value)
    ]
    findings += _compare(cell.store.episodes(name), numbered(tested, sampler))
    if findings and (here := _elsewhere(record, facts)):
        findings.append(here)
    return findings[:MOST_FINDINGS]


def _compare(before: pd.DataFrame, now: pd.DataFrame) -> list[str]:
    """What differs between stored test episodes and those of today."""
    if len(before) != len(now):
        return [f"episodes.csv holds {len(before)} episodes instead of {len(now)}"]
    findings = []
    other = np.flatnonzero((before["accuracy"] - now["accuracy"]).abs() > 1e-9)
    if len(other):
        first = other[0]
        findings.append(
            f"{len(other)} of {len(now)} episodes have another accuracy, the first number {first}: "
            f"{before['accuracy'][first]} stored, {now['accuracy'][first]} now"
        )
    if "classes" in before and (before["classes"].astype(str) != now["classes"]).any():
        findings.append("episodes.csv names other classes than the episodes have")
    return findings


def _elsewhere(record: dict[str, Any], facts: dict[str, Any]) -> str:
    """In what this machine differs from that of the run, which may move a prediction or two."""
    keys = ("device_name", "threads", "torch")
    other = [f"{key} {record.get(key)}" for key in keys if record.get(key) != facts[key]]
    return f"the run had {', '.join(other)}, where rounding differs" if other else ""


def _close(stored: Any, value: Any) -> bool:
    if isinstance(value, float) and isinstance(stored, int | float):
        return abs(stored - value) <= 1e-6
    return stored == value
