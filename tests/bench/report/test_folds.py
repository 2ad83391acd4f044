"""Folds of one data set: the mean over folds by hand, and what counts as a fold."""

import statistics

import pytest
from scipy.stats import t

from bench.report.folds import fold_table, fold_tables, over_folds
from tests.bench.report.samples import record
from tests.bench.report.test_floors import floor

SCORES = [85.0, 87.5, 91.0, 87.0, 88.5]


def folded(algo="protonet", scores=SCORES, **changes):
    """Rows of one learner, one for each fold, and their configurations."""
    rows, configs = [], {}
    for number, score in enumerate(scores, 1):
        fold, name = f"{number:02}", "banking77" if number == 1 else f"banking77-{number:02}"
        own = {"dataset": name, "score": score, "data_digest": f"{fold}ab", "examples": "texts"}
        own |= {"cell": f"{algo}-{name}-{changes}", "episodes_digest": f"{fold}cd"}
        rows.append(record(algo, **own | changes))
        configs[rows[-1]["cell"]] = {"dataset": {"name": "banking77", "fold": fold}}
    return rows, configs


def test_the_mean_over_folds_has_the_t_interval_of_five_numbers():
    rows, configs = folded()
    found = over_folds(rows, configs)
    ((_, setting, (line,)),) = found
    half = t.ppf(0.975, 4) * statistics.stdev(SCORES) / 5**0.5
    assert (setting, line.label) == ("5-way 1-shot", "ProtoNet")
    assert (line.estimate.mean, line.estimate.half) == pytest.approx(
        (statistics.mean(SCORES), half)
    )
    (table,) = fold_tables(found)
    assert table.title == "banking77, 5-way 1-shot, Test accuracy (%)"
    assert table.headers[1:] == [f"fold 0{n}" for n in range(1, 6)] + ["mean (folds)"]
    assert table.cells == [
        ["ProtoNet", *(f"{score:.1f} ± 0.4" for score in SCORES), f"87.8 ± {half:.1f} (5)"]
    ]
    (row,) = fold_table(found).to_dict("records")
    assert (row["comparison"], row["folds"], row["ci95"]) == ("banking77", 5, pytest.approx(half))


def test_seeds_of_a_fold_count_once_and_a_fold_without_a_run_is_empty():
    rows, configs = folded()
    more, their = folded(scores=[87.0], seed=1)
    fewer, others = folded("maml", SCORES[:2])
    found = over_folds([*rows, *more, *fewer], configs | their | others)
    ((_, _, (maml, protonet)),) = found
    assert protonet.estimate.mean == pytest.approx(statistics.mean([86.0, *SCORES[1:]]))
    assert [maml.label, *maml.folds] == ["MAML", "01", "02"]
    assert fold_tables(found)[0].cells[0][3:] == ["–", "–", "–", fold_tables(found)[0].cells[0][-1]]


def test_floors_come_first_and_other_encoders_have_a_table_of_their_own():
    rows, configs = folded()
    floors, their = [], {}
    for row in rows:
        floors.append(floor(**{k: row[k] for k in ("dataset", "data_digest", "episodes_digest")},
                            cell=f"nearest-{row['dataset']}"))  # fmt: skip
        their[floors[-1]["cell"]] = configs[row["cell"]]
    encoded, others = folded(pretrained="minilm, weights 0123456789abcdef", backbone="minilm")
    found = over_folds([*rows, *floors, *encoded], configs | their | others)
    assert sorted([line.label for line in lines] for _, _, lines in found) == [
        ["Nearest centroid (pixels)", "ProtoNet"], ["Nearest centroid (pixels)", "ProtoNet"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [None, "text", {"dataset": "banking77"}, {"dataset": {"name": "clinc150", "fold": "domains"}}],
)
def test_what_names_no_fold_is_none(config):
    rows, _ = folded()
    assert over_folds(rows, {row["cell"]: config for row in rows}) == []
    assert fold_tables([]) == [] and fold_table([]) is None


def test_one_fold_has_no_mean():
    assert over_folds(*folded(scores=[85.0])) == []


@pytest.mark.filterwarnings("error")
def test_a_learner_that_is_missing_in_a_setting_has_no_line_there():
    one, configs = folded()
    other, more = folded("maml", shots=5)
    found = over_folds([*one, *other], configs | more)
    assert [(setting, [line.label for line in lines]) for _, setting, lines in found] == [
        ("5-way 1-shot", ["ProtoNet"]),
        ("5-way 5-shot", ["MAML"]),
    ]
