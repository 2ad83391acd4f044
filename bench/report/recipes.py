"""Contributions of learner and training recipe, where several of both were crossed."""

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.report.leaderboard import Episodes
from bench.report.rows import (
    RECIPE,
    SCORE,
    Comparison,
    Row,
    comparisons,
    done,
    recipe_name,
    score,
    shared_facts,
    with_labels,
)
from bench.report.tables import ABSENT, Table
from bench.stats.intervals import estimate

NOTE = (
    "Test accuracy in %, on the same episodes throughout. ±: 95 % interval for other seeds and episodes "
    "where all cells have several seeds; else over test episodes of one trained model a cell, without "
    "the luck of training. Last column: the mean over recipes against that of the first line; last line: "
    "the mean over learners against that of the first recipe."
)

Recipe = tuple[object, ...]


@dataclass(frozen=True)
class Cross:
    """Factorial design: one setting in which each of several learners was trained by each recipe.

    ``runs`` holds the test accuracies (%) of each learner and recipe in the format of
    `bench.stats.intervals.estimate`: [S, E] over seeds, or [E] of models if some have one seed.
    """

    comparison: Comparison
    setting: str
    learners: list[str]
    recipes: list[Recipe]
    cells: list[list[list[Row]]]
    runs: list[list[NDArray[np.float64]]]


def factorial_designs(records: Iterable[Row], tested: Episodes) -> list[Cross]:
    """Return all settings in which two or more learners and recipes are fully crossed."""
    found = []
    for comparison in comparisons(done(with_labels(records, but=RECIPE)), SCORE):
        for setting in comparison.settings:
            by_recipe = {
                label: _by_recipe(comparison.at(label, setting)) for label in comparison.labels
            }
            several = {label: rows for label, rows in by_recipe.items() if len(rows) > 1}
            shared = (
                set.intersection(*(set(rows) for rows in several.values())) if several else set()
            )
            if len(several) < 2 or len(shared) < 2:
                continue
            recipes = sorted(shared, key=_plainness)
            cells = [[rows[recipe] for recipe in recipes] for rows in several.values()]
            one_seed = any(len(rows) == 1 for line in cells for rows in line)
            runs = [[_runs(rows, tested, one_seed) for rows in line] for line in cells]
            found.append(Cross(comparison, setting, list(several), recipes, cells, runs))
    return found


def table(cross: Cross) -> Table:
    """Return a table of learners by recipes, with the average contribution of each."""
    names = recipe_names(cross.recipes)
    by_learner, by_recipe = cross.runs, [list(line) for line in zip(*cross.runs, strict=True)]
    lines = [
        [
            label,
            *(_cell(rows) for rows in cross.cells[i]),
            _difference(by_learner[i], by_learner[0]) if i else ABSENT,
        ]
        for i, label in enumerate(cross.learners)
    ]
    last = [_difference(each, by_recipe[0]) for each in by_recipe[1:]]
    lines.append(["*the recipe contributes*", ABSENT, *last, ""])
    facts = shared_facts([row for line in cross.cells for rows in line for row in rows], SCORE)
    legend = "; ".join(
        f"{name}: {_words(recipe)}" for name, recipe in zip(names, cross.recipes, strict=True)
    )
    headers = ["Learner", *names, "the learner contributes"]
    title, place = (
        f"{cross.comparison.title}, {cross.setting}",
        cross.comparison.place(cross.setting),
    )
    return Table(title, headers, lines, f"{NOTE} {legend}. {facts[:1].upper()}{facts[1:]}.", place)


def recipe_names(recipes: Sequence[Recipe]) -> list[str]:
    """Return short names, such as ``sgd, augmented``; with a letter where names would clash."""
    names = [recipe_name(dict(zip(RECIPE, recipe, strict=True))) for recipe in recipes]
    return [
        f"{name} {string.ascii_uppercase[names[:i].count(name)]}" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _by_recipe(rows: Iterable[Row]) -> dict[Recipe, list[Row]]:
    found: dict[Recipe, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(fact) for fact in RECIPE), []).append(row)
    return found


def _plainness(recipe: Recipe) -> tuple[object, ...]:
    """Return a sort key: adam before sgd, and plain before augmented or smoothed recipes."""
    facts = dict(zip(RECIPE, recipe, strict=True))
    return (
        facts["train_split"] != "train",
        str(facts["optimizer"]),
        bool(facts["label_smoothing"]),
        facts["augmentation"] != "none",
        str(recipe),
    )


def _words(recipe: Recipe) -> str:
    return ", ".join(
        f"{fact.replace('_', ' ')} {value}"
        for fact, value in zip(RECIPE, recipe, strict=True)
        if value
    )


def _cell(rows: Sequence[Row]) -> str:
    found = score(rows)
    return f"{found.mean:.1f} ± {found.half:.1f}"


def _runs(rows: Sequence[Row], tested: Episodes, models: bool) -> NDArray[np.float64]:
    runs = np.stack([tested[row["cell"]]["score"].to_numpy(float) for row in rows])
    return runs.mean(0) if models else runs


def _difference(these: Sequence[NDArray[np.float64]], others: Sequence[NDArray[np.float64]]) -> str:
    """Return the mean of these groups of runs minus that of others, as text."""
    share = 1 / len(these)
    weights = [share] * len(these) + [-share] * len(others)
    found = estimate([*these, *others], weights)
    return f"{found.mean:+.1f} ± {found.half:.1f}"
