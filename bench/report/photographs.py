"""Test classes one by one, and accuracy by the number of one's own photographs."""

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from bench.report.rows import (
    SCORE,
    Comparison,
    Row,
    comparisons,
    done,
    learners,
    row_order,
    with_labels,
)
from bench.report.tables import ABSENT, Table
from bench.report.trials import LEADING, Trials
from bench.runs.records import tested_on
from bench.runs.store import AS
from bench.stats import photos

COUNTS = ("photos", "queries")
"""What of a class there is so much of: all photographs, or queries of the test episodes."""
Classes = Mapping[str, pd.DataFrame]
"""Maps each cell to its classes.csv."""

CLASSES_NOTES = {
    "photographs": "Accuracy (%) by class, ± 95 % interval for other photographs of these classes.",
    "episodes": "Accuracy (%) by class, ± 95 % interval over the test episodes that have the class.",
}
CONFUSION_NOTES = {
    "photographs": "Of the queries of each class, the share (%) that is taken for each class.",
    "episodes": (
        "Of the queries of each class, the share (%) that is taken for each class, in the test episodes "
        "that have both."
    ),
}
LEARNING_NOTE = (
    "Accuracy (%) by photographs a class in the support set, ± 95 % interval for other photographs of "
    "these classes. The last two columns, of all photographs that there are and of twice as many, are "
    "extrapolated by a power law of the error: a guess, which has no interval."
)


def tested(records: Iterable[Row], classes: Classes) -> list[tuple[Comparison, str]]:
    """Return the comparisons and settings whose test classes are told one by one."""
    return [
        (comparison, setting)
        for comparison in comparisons(done(with_labels(records)), SCORE)
        for setting in comparison.settings
        if any(each in classes for each in _cells(comparison, setting).values())
    ]


def class_tables(records: Iterable[Row], classes: Classes) -> list[Table]:
    """Return tables of the accuracy of each class, classes by learners."""
    found = []
    for comparison, setting in tested(records, classes):
        frames = _frames(comparison, setting, classes)
        names = list(dict.fromkeys(name for frame in frames.values() for name in names_of(frame)))
        texts = [
            dict(zip(names_of(frame), _texts(comparison, frame), strict=True))
            for frame in frames.values()
        ]
        lines = [[name, *(each.get(name, ABSENT) for each in texts)] for name in names]
        title, place = f"{comparison.title}, {setting}", comparison.place(setting)
        note = CLASSES_NOTES[_unit(comparison)]
        found.append(Table(title, ["Class", *frames], lines, note, place))
    return found


def confusion_tables(records: Iterable[Row], classes: Classes) -> list[Table]:
    """Return tables of what each class is taken for, one for each learner and setting."""
    found = []
    for comparison, setting in tested(records, classes):
        for label, frame in _frames(comparison, setting, classes).items():
            names = names_of(frame)
            lines = [
                [name, *(_share(frame[AS + other][n]) for other in names)]
                for n, name in enumerate(names)
            ]
            title = f"{label.strip('*')}, {comparison.title}, {setting}"
            headers = ["Class", *(f"as {name}" for name in names)]
            place = comparison.place(setting)
            found.append(Table(title, headers, lines, CONFUSION_NOTES[_unit(comparison)], place))
    return found


def classes_table(records: Iterable[Row], classes: Classes) -> pd.DataFrame | None:
    """Return one row per cell, class and answer; None if there are none."""
    frames = []
    for row in sorted(done(records), key=row_order):
        if (frame := classes.get(row["cell"])) is not None:
            names = names_of(frame)
            frames += [
                pd.DataFrame(
                    {key: row[key] for key in LEADING}
                    | {"class": name}
                    | {key: frame[key][n] for key in COUNTS if key in frame}
                    | {key: frame[key][n] for key in ("accuracy", "ci95")}
                    | {"taken_for": names, "share": [frame[AS + other][n] for other in names]}
                )
                for n, name in enumerate(names)
            ]
    return pd.concat(frames, ignore_index=True) if frames else None


def learning_tables(records: Iterable[Row], trials: Trials, classes: Classes) -> list[Table]:
    """Return tables of accuracy by photographs a class, and of what twice as many would bring."""
    found = []
    for comparison, curves, size in learning(records, trials, classes):
        shots = sorted({value for curve in curves.values() for value in curve["value"]})
        lines = []
        for label, curve in curves.items():
            scores = [
                comparison.metric.number(*pair)
                for pair in zip(curve["score"], curve["ci95"], strict=True)
            ]
            texts = dict(zip(curve["value"], scores, strict=True))
            more = [f"{value:.1f}" for value in extrapolated(curve, [size, 2 * size])]
            lines.append([label, *(texts.get(value, ABSENT) for value in shots), *more])
        headers = ["Learner", *map(str, shots), f"all {size}", f"{2 * size}, if there were"]
        found.append(Table(f"{comparison.title}, by photographs", headers, lines, LEARNING_NOTE))
    return found


def learning(
    records: Iterable[Row], trials: Trials, classes: Classes
) -> list[tuple[Comparison, dict[str, pd.DataFrame], int]]:
    """Return accuracies by photographs a class, by label, for each comparison of all classes.

    The number is that of photographs of the smallest class.
    """
    found: dict[str, tuple[Comparison, dict[str, pd.DataFrame], int]] = {}
    for comparison, setting in tested(records, classes):
        if _unit(comparison) != "photographs":
            continue
        cells = _cells(comparison, setting)
        curves = {
            label: curve.assign(value=curve["value"].astype(int))
            for label, cell in cells.items()
            if cell in trials
            for curve in [trials[cell][trials[cell]["varied"] == "shots"]]
            if len(curve) > 2
        }
        sizes = [int(classes[cell]["photos"].min()) for cell in cells.values() if cell in classes]
        if curves:  # the same at all shots of the test
            _, known, _ = found.get(comparison.title, (None, {}, 0))
            found[comparison.title] = comparison, known | curves, min(sizes)
    return list(found.values())


def extrapolated(curve: pd.DataFrame, at: Sequence[int]) -> list[float]:
    """Return the accuracies of a curve at other numbers of photographs, at most 100."""
    values = photos.extrapolated(curve["value"], curve["score"], curve["ci95"], at)
    return [float(value) for value in values]


def names_of(frame: pd.DataFrame) -> list[str]:
    """Return the names of the classes of classes.csv, in its order."""
    return [column.removeprefix(AS) for column in map(str, frame) if column.startswith(AS)]


def _unit(comparison: Comparison) -> str:
    return tested_on(comparison.rows[0])[1]


def _share(share: float) -> str:
    return ABSENT if math.isnan(share) else f"{share:.0f}"


def _cells(comparison: Comparison, setting: str) -> dict[str, str]:
    """Return a cell of each learner and floor of a setting; floors are in emphasis."""
    cells = {
        label: rows[0]["cell"]
        for label in comparison.labels
        if (rows := comparison.at(label, setting))
    }
    floors = {row["label"]: row["cell"] for row in comparison.floors_at(setting)}
    return cells | {
        f"*{label}*": floors[label] for label in learners(comparison.floors) if label in floors
    }


def _frames(comparison: Comparison, setting: str, classes: Classes) -> dict[str, pd.DataFrame]:
    cells = _cells(comparison, setting)
    return {label: classes[cell] for label, cell in cells.items() if cell in classes}


def _texts(comparison: Comparison, frame: pd.DataFrame) -> list[str]:
    pairs = zip(frame["accuracy"], frame["ci95"], strict=True)
    return [comparison.metric.number(*pair) for pair in pairs]
