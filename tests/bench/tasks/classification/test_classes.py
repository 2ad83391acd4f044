"""Test classes one by one: how well each is told, and for which others it is taken."""

import io

import pandas as pd
import pytest
import torch

from algorithms.learner import Learner, Setting
from bench.engine.evaluate import evaluate
from bench.stats.intervals import mean_ci95
from bench.tasks.classification import domain
from bench.tasks.classification.domain import Classification
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool

NAMES = tuple("abcd")


class Sloppy(Learner):
    """A learner that takes every other query of class b for class a, where that is in the task."""

    def forward(self, support_x, support_y, query_x):
        classes, number = query_x[..., 0, 0, 0].long(), torch.arange(query_x.shape[1])
        seen = torch.where((classes == 1) & (number % 2 == 0), 0, classes)
        kinds = support_x[:, :, 0, 0, 0, 0].long()
        known = (kinds == 0).any(1, keepdim=True)
        return (torch.where(known, seen, classes)[..., None] == kinds[:, None]).double()


@pytest.fixture
def source():
    """Four classes of eight images, each of which is the number of its class."""
    images = torch.arange(4).repeat_interleave(8).float().view(32, 1, 1, 1)
    return EpisodeSampler(Pool(images, torch.arange(0, 33, 8), NAMES), Setting(2, 1, 4), ("x",))


def classes_csv(source, tested):
    (text,) = Classification().files(Sloppy(), source, tested).values()
    return pd.read_csv(io.StringIO(text), index_col="class", keep_default_na=False, na_values=[""])


def test_each_class_has_its_accuracy_and_what_it_is_taken_for(source):
    tested = evaluate(Sloppy(), source, 200, 16)
    table = classes_csv(source, tested)
    drawn = source.classes(0, 200)
    has_b = (drawn == 1).any(1)
    with_a = has_b & (drawn == 0).any(1)
    right = torch.where(with_a, 50.0, 100.0)[has_b]
    assert table.index.tolist() == list(NAMES)
    assert table["queries"].tolist() == [4 * int((drawn == n).any(1).sum()) for n in range(4)]
    assert tuple(table.loc["b", ["accuracy", "ci95"]]) == pytest.approx(mean_ci95(right))
    assert table.loc[["a", "c", "d"], "accuracy"].tolist() == [100, 100, 100]
    assert table.loc["b", "as a"] == 50 and table.loc["b", "as c"] == 0 == table.loc["a", "as b"]
    assert table.loc["b", "as b"] == pytest.approx(table.loc["b", "accuracy"])


def test_classes_that_never_met_have_no_share(source):
    tested = evaluate(Sloppy(), source, 4, 16)
    tested["classes"] = torch.tensor([[0, 1], [1, 0], [2, 3], [2, 3]])
    table = classes_csv(source, tested)
    assert pd.isna(table.loc["a", "as c"]) and table.loc["c", "as c"] >= 0
    tested["classes"] = torch.tensor([[0, 1], [1, 0], [0, 1], [2, 1]])
    assert classes_csv(source, tested).index.tolist() == ["a", "b"], "of one episode, no interval"


def test_too_many_classes_to_read_are_not_told(source, monkeypatch):
    monkeypatch.setattr(domain, "MOST_CLASSES", 3)
    assert not Classification().files(Sloppy(), source, evaluate(Sloppy(), source, 4, 16))


def test_the_table_of_episodes_does_not_grow(source):
    tested = evaluate(Sloppy(), source, 4, 16)
    columns = Classification().table(tested, source).columns.tolist()
    assert columns == ["episode", "score", "loss", "ece", "brier", "classes", "groups"]
