"""Time to accuracy: by hand, over seeds, with energy, and what was not reached."""

import pandas as pd

from bench.report.targets import time_to_accuracy_markdown
from tests.bench.report.samples import Row, record


def curve(accuracies: list[float], seconds: float = 10) -> pd.DataFrame:
    steps = range(1, 1 + len(accuracies))
    return pd.DataFrame(
        {
            "episodes": [1000 * step for step in steps],
            "seconds": [seconds * step for step in steps],
            "val_score": accuracies,
        }
    )


def lines(rows: list[Row], curves: list[pd.DataFrame]) -> list[str]:
    cells = [row["cell"] for row in rows]
    text = time_to_accuracy_markdown(rows, dict(zip(cells, curves, strict=True)))
    assert text is not None
    return text.split("\n")


def test_the_first_validation_that_is_good_enough_counts() -> None:
    rows = [record("maml"), record("protonet")]
    assert lines(rows, [curve([61, 85, 79, 91]), curve([85, 80, 80, 80], seconds=7.4)])[:6] == [
        "### omniglot, 5-way 1-shot",
        "",
        "| Learner | 60 % | 80 % | 90 % |",
        "| --- | ---: | ---: | ---: |",
        "| MAML | 10 s (1,000) | 20 s (2,000) | 40 s (4,000) |",
        "| ProtoNet | 7 s (1,000) | 7 s (1,000) | – |",
    ]


def test_all_seeds_must_get_there() -> None:
    rows = [record("maml", seed=seed) for seed in (0, 1)]
    found = lines(rows, [curve([61, 95]), curve([50, 70])])
    assert found[2] == "| Learner | 60 % |"
    assert found[4] == "| MAML | 15 s (1,500) |"


def test_energy_is_told_where_it_is_known() -> None:
    row = record("maml")
    row["throughput"][0]["joules_per_1000_tasks"] = 500.0
    assert (
        lines([row], [curve([50, 85])])[4]
        == "| MAML | 20 s (2,000, 1.0 kJ) | 20 s (2,000, 1.0 kJ) |"
    )


def test_other_machines_stand_apart_and_nothing_is_no_table() -> None:
    rows = [record("maml"), record("protonet", device_name="another")]
    found = lines(rows, [curve([85]), curve([85])])
    assert len([line for line in found if line.startswith("###")]) == 2
    assert time_to_accuracy_markdown(rows, {}) is None
    assert time_to_accuracy_markdown(rows[:1], {rows[0]["cell"]: curve([30])}) is None
