"""Verification of finished runs: they are evaluated again and compared with their stored results."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.config.schema import NOT_IN_DIGEST, of_training, without_places
from bench.engine.evaluate import evaluate
from bench.engine.train import ends, steps_of
from bench.runs import cell as cells
from bench.runs import model
from bench.runs.cell import Cell, digest_of, digests_of, task_of
from bench.runs.protocol import card
from bench.runs.records import Role, facts
from bench.runs.reload import parameters
from bench.stats.intervals import mean_ci95
from bench.tasks.episodes import EpisodeSampler, episodes_of

RUN = facts(Role.RUN)
OF_THE_RUN = {"cell", "schema", *RUN}
MOST_FINDINGS = 5
TOLERANCES = {"loss": 1e-4, "brier": 1e-4, "ece": 1e-2}
"""Tolerances of metrics that vary with a machine's rounding; others change by whole predictions, if
at all."""
TEXTS = {"classes", "groups", "photo", "class"}
UNCHECKED = (
    "What only another training could tell is not checked: how long the training and each phase of the "
    "speed took, memory and energy, and the earlier lines of history.csv."
)


def verify(cell: Cell, name: str) -> list[str]:
    """Return the inconsistencies of the stored run ``name``, whose config and data make ``cell``."""
    record = cell.store.record(name) or {}
    findings = _name(cell, record, name)
    learner = cells.build_learner(cell.config, cell.dataset, cell.train_setting).to(cell.device)
    try:
        learner.load_state_dict(parameters(cell.store, name))
    except RuntimeError:
        return [*findings, f"{model.WEIGHTS} is that of another learner or backbone"]
    cells.use_arithmetic(cell.config, learner)
    facts = card(cell, learner)
    findings += [
        f"record.json says {key} {record.get(key)!r}, config.yaml and the data {value!r}"
        for key, value in facts.items()
        if key not in OF_THE_RUN and record.get(key) != value
    ]

    def source(split: str, purpose: str) -> EpisodeSampler:
        return episodes_of(cell.dataset, split, cell.test_setting, cell.device, purpose)

    eval_batch_size = cells.EVAL_BATCH_SIZE[cell.device.type]
    domain, count = cell.dataset.domain, cell.config.test.episodes
    test = source("test", "test")
    tested = evaluate(learner, test, count, eval_batch_size)
    score, ci95 = domain.interval(tested)
    found = {
        "episodes": count,
        "episodes_digest": test.digest(count),
        "score": score,
        "ci95": ci95,
    }
    summary = domain.summary(tested)
    found |= {key: value for key, value in summary.items() if record.get(key) is not None}
    if record["val_score"] is not None:
        validated = evaluate(
            learner, source("val", "validation"), cell.config.validation.episodes, eval_batch_size
        )
        found["val_score"] = mean_ci95(validated["score"])[0]
    findings += [
        f"record.json says {key} {record.get(key)!r}, now it is {value!r}"
        for key, value in found.items()
        if not _close(record.get(key), value, TOLERANCES.get(key, 1e-6))
    ]
    stored = model.read(cell.store, name)
    findings += [
        f"{model.DESCRIPTION} says {key} {getattr(stored, key)}, config.yaml and the data {value}"
        for key, value in model.describe(cell, stored.sha256)
        if getattr(stored, key) != value
    ]
    findings += _compare(cell.store.episodes(name), domain.table(tested, test), domain.unit)
    findings += _training(cell, record, name) + _speed(cell, record, name)
    if findings and (here := _elsewhere(record, facts)):
        findings.append(here)
    return findings[:MOST_FINDINGS]


def _name(cell: Cell, record: dict[str, Any], name: str) -> list[str]:
    """Return a finding if the name of a run does not match its configuration."""
    options = cell.store.config(name)
    facts = of_training({key: value for key, value in options.items() if key not in NOT_IN_DIGEST})
    facts |= without_places(options)
    if tuned := options.get("tuned"):
        facts["tuned"] = {key: tuned.get(key) for key in ("study", "n_trials")}
    digest = digest_of(facts, *digests_of(cell.dataset), record["device"])
    made = f"{task_of(cell.config, cell.dataset)}-seed{cell.config.seed}-{digest}"
    return [f"config.yaml is not that of the run, but of {made}"] if made != name else []


def _training(cell: Cell, record: dict[str, Any], name: str) -> list[str]:
    """Return the contradictions between learning curve, configuration and record about the training."""
    if record["val_score"] is None:
        return []
    try:
        curve = cell.store.history(name)
    except (ValueError, OSError) as error:
        return [f"history.csv cannot be read ({error})"]
    plan, shape = cell.config.train, cell.train_setting
    steps = steps_of(plan, shape)
    after = [plan.meta_batch * end for end in ends(steps, cell.config.validation.times)]
    if curve["episodes"].tolist() != after:
        return [
            f"history.csv has validations after {curve['episodes'].tolist()} episodes, and "
            f"config.yaml after {after}"
        ]
    best = curve.iloc[cell.dataset.domain.metric.best(curve["val_score"].tolist())]
    found = {
        "selected_episode": int(best["episodes"]),
        "val_score": float(best["val_score"]),
        "train_episodes": after[-1],
        "train_seconds": float(curve["seconds"].iloc[-1]),
    }
    return [
        f"record.json says {key} {record.get(key)!r}, history.csv {value!r}"
        for key, value in found.items()
        if not _close(record.get(key), value)
    ]


def _speed(cell: Cell, record: dict[str, Any], name: str) -> list[str]:
    """Return the throughputs of a record that do not follow from the times in the same row."""
    train, test = cell.train_setting, cell.test_setting
    photos = len(cell.dataset.splits["test"].inputs) if cell.dataset.domain.tests_all else 0
    examples = dict.fromkeys(("draw", "train", "train_alone"), train.examples) | {
        "evaluate": test.examples,
        "adapt": test.groups * test.shots,
        "infer": photos or test.groups * test.queries,
    }
    findings = []
    for row in record["throughput"]:
        rate = 1e3 * row["tasks_per_call"] / row["ms_median"] if row["ms_median"] else math.inf
        implied = {"tasks_per_s": rate, "examples_per_s": rate * examples[row["phase"]]}
        findings += [
            f"record.json says {row['phase']} {key} {row[key]!r}, and its ms_median makes it {value!r}"
            for key, value in implied.items()
            if not math.isclose(row[key], value, rel_tol=1e-6)
        ]
    return findings


def _compare(before: pd.DataFrame, now: pd.DataFrame, unit: str) -> list[str]:
    """Return the differences between the stored test and that of now, by episode or another unit."""
    if len(before) != len(now):
        return [f"{unit}.csv holds {len(before)} {unit} instead of {len(now)}"]
    if missing := [str(column) for column in now if column not in before]:
        return [f"{unit}.csv has no {', '.join(missing)}"]
    findings = []
    other = np.flatnonzero((before["score"] - now["score"]).abs() > 1e-9)
    if len(other):
        first = other[0]
        findings.append(
            f"{len(other)} of {len(now)} {unit} have another score, the first number {first}: "
            f"{before['score'][first]} stored, {now['score'][first]} now"
        )
    for column, tolerance in TOLERANCES.items():
        if column in now and not np.allclose(
            before[column], now[column], rtol=tolerance, atol=tolerance
        ):
            findings.append(f"{unit}.csv holds another {column} than the {unit} have")
    for column in TEXTS & {*now}:
        if (before[column].astype(str) != now[column]).any():
            findings.append(f"{unit}.csv names other {column} than the {unit} have")
    return findings


def _elsewhere(record: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return how this machine differs from the run's, which may change single predictions."""
    keys = ("device_name", "threads", "torch")
    other = [f"{key} {record.get(key)}" for key in keys if record.get(key) != facts[key]]
    return f"the run had {', '.join(other)}, where rounding differs" if other else ""


def _close(stored: Any, value: Any, tolerance: float = 1e-6) -> bool:
    if isinstance(value, float) and isinstance(stored, int | float):
        return math.isclose(stored, value, rel_tol=tolerance, abs_tol=tolerance)
    return bool(stored == value)
