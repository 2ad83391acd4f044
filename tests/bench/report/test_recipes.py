"""What learner and recipe contribute: by hand, from crossed rows."""

import math

import numpy as np
import pandas as pd

from bench.report import recipes, tables
from bench.report.rows import with_labels
from bench.stats import intervals
from tests.bench.report.samples import record

SGD = {"optimizer": "sgd", "momentum": 0.9, "lr": 0.1}
AUGMENTED = {"augmentation": "flip"}


def crossed(*left_out: str) -> tuple[list, dict]:
    """Two learners by three recipes, with accuracies of four episodes that add up from both."""
    rows, tested = [], {}
    base = np.array([40.0, 50.0, 60.0, 70.0])
    wave = np.array([1.0, -1.0, 1.0, -1.0])
    of_learner = {"protonet": 0 * base, "metaoptnet": 2.0 + wave}
    of_recipe = {"plain": ({}, 0.0), "flip": (AUGMENTED, 5.0), "sgd": (SGD, -3.0)}
    for algo, more in of_learner.items():
        for name, (facts, gain) in of_recipe.items():
            row = record(algo, **facts) | {"cell": f"{algo}-{name}", "episodes": 4}
            tested[row["cell"]] = pd.DataFrame({"score": base + more + gain})
            row["score"] = tested[row["cell"]]["score"].mean()
            if row["cell"] not in left_out:
                rows.append(row)
    return rows, tested


def test_the_table_by_hand():
    (cross,) = recipes.factorial_designs(*crossed())
    assert recipes.recipe_names(cross.recipes) == ["adam", "adam, augmented", "sgd"]
    table = recipes.table(cross)
    assert table.headers == ["Learner", "adam", "adam, augmented", "sgd", "the learner contributes"]
    proto, svm, last = table.cells
    assert proto[1:4] == ["55.0 ± 0.4", "60.0 ± 0.4", "52.0 ± 0.4"] and proto[4] == tables.ABSENT
    t = 3.182446  # the quantile 0.975 of Student's t with 3 degrees of freedom
    half = t * math.sqrt(4 / 3) / 2  # of the differences 3, 1, 3, 1
    assert svm == ["MetaOptNet", "57.0 ± 0.4", "62.0 ± 0.4", "54.0 ± 0.4", f"+2.0 ± {half:.1f}"]
    assert last[1:] == [tables.ABSENT, "+5.0 ± 0.0", "-3.0 ± 0.0", ""]
    assert "sgd: train split train, optimizer sgd, momentum 0.9, lr 0.1" in table.note


def test_what_is_not_crossed_has_no_table():
    assert recipes.factorial_designs(*crossed("metaoptnet-flip", "metaoptnet-sgd")) == []
    rows, tested = crossed()
    assert (
        recipes.factorial_designs([row for row in rows if row["algo"] == "protonet"], tested) == []
    )
    gap = recipes.factorial_designs(*crossed("metaoptnet-sgd"))
    assert len(gap[0].recipes) == 2, "those that all have"


def test_recipes_of_one_short_name_get_letters():
    rows, _ = crossed()
    facts = [tuple({**rows[0], **c}[f] for f in recipes.RECIPE) for c in ({}, {"lr": 0.5}, SGD)]
    assert recipes.recipe_names(facts) == ["adam A", "adam B", "sgd"]


def test_recipes_that_differ_are_learners_of_their_own_elsewhere():
    rows, _ = crossed()
    labels = {row["label"] for row in with_labels(rows)}
    assert labels == {
        f"{learner} ({recipe})"
        for learner in ("ProtoNet", "MetaOptNet")
        for recipe in ("adam", "adam, augmented", "sgd")
    }
    slower = {**rows[0], "cell": "slower", "lr": 0.001, "lr_schedule": "linear"}
    labels = {row["label"] for row in with_labels([*rows, slower])}
    assert len(labels) == 7
    assert "MetaOptNet (sgd)" in labels
    full = "optimizer adam, momentum 0.0, lr 0.001, lr schedule linear, augmentation none"
    assert f"ProtoNet ({full})" in labels, "a few words would not do"
    one_fact = [rows[0], {**rows[0], "cell": "slower", "lr": 0.001}]
    assert [row["label"] for row in with_labels(one_fact)] == [
        "ProtoNet (lr 0.002)",
        "ProtoNet (lr 0.001)",
    ]


def test_with_several_seeds_what_they_contribute_is_over_seeds_too():
    rows, tested = crossed()
    luck = np.random.default_rng(0)
    more = [
        {**row, "seed": seed, "cell": f"{row['cell']}-{seed}"} for row in rows for seed in (1, 2)
    ]
    for row in more:
        tested[row["cell"]] = tested[row["cell"][:-2]] + 3 * luck.normal()
    (cross,) = recipes.factorial_designs([*rows, *more], tested)
    gain = recipes.table(cross).cells[1][4]
    groups = [
        np.stack([tested[r["cell"]]["score"] for r in c]) for c in cross.cells[1] + cross.cells[0]
    ]
    wanted = intervals.estimate(groups, [1 / 3] * 3 + [-1 / 3] * 3)
    assert gain == f"{wanted.mean:+.1f} ± {wanted.half:.1f}"
    assert wanted.half > 1
