"""Each law of a domain finds a domain that breaks it, and those of the suite break none."""

import pytest
import torch

from algorithms.losses import CrossEntropy, SquaredError
from bench.check import domain as laws
from bench.check.tasks import random_episodes
from bench.tasks.base import Metric
from bench.tasks.classification.domain import Classification
from bench.tasks.regression.domain import Regression
from tests.algorithms.test_regression import tasks


class UpsideDown(Regression):
    metric = Metric(name="mse", label="error", low=0)


class Flattering(Classification):
    metric = Metric(name="accuracy", label="accuracy", low=0, high=1)


class OneForAll(Classification):
    def evaluate(self, learner, batch, tasks):
        found = super().evaluate(learner, batch, tasks)
        return {
            name: value.double().mean(0, keepdim=True).expand_as(value)
            for name, value in found.items()
        }


class FirstHalf(Regression):
    def evaluate(self, learner, batch, tasks):
        half = batch.query_y.shape[1] // 2
        outputs = learner(batch.support_x, batch.support_y, batch.query_x)[:, :half]
        return {"score": SquaredError().score(outputs, batch.query_y[:, :half])}


class Summed(CrossEntropy):
    def mean(self, outputs, targets):
        return self(outputs, targets).sum()


class Summing(Classification):
    def loss(self, label_smoothing=0.0):
        return Summed(label_smoothing)


FAULTS = [
    (laws.right_outputs_score_best, UpsideDown(), "right outputs have 0, wrong ones"),
    (laws.scores_are_of_the_metric, Flattering(), "100.0.* are not of its bounds"),
    (laws.tasks_are_scored_by_themselves, OneForAll(), "it is another"),
    (laws.the_order_of_queries_does_not_matter, FirstHalf(), "it is another"),
    (laws.the_loss_is_of_each_example, Summing(), "the outer loss is another"),
]


def scored(domain):
    drawn = random_episodes(4, 3, shots=4, queries=1) if domain.has_classes else tasks(4)
    return laws.Scored.of(domain, drawn)


@pytest.mark.parametrize("law", laws.LAWS)
@pytest.mark.parametrize("domain", [Classification(), Regression()], ids=["classes", "numbers"])
def test_the_suites_domains_obey_all_laws(law, domain):
    law(scored(domain))


@pytest.mark.parametrize(("law", "domain", "sentence"), FAULTS)
def test_each_law_finds_its_fault(law, domain, sentence):
    given = scored(domain)
    if law is laws.the_order_of_queries_does_not_matter:
        given = given._replace(batch=given.batch._replace(query_y=given.batch.query_y + 1))
        given.batch.query_y[:, 0] += 5
    if law is laws.tasks_are_scored_by_themselves:
        other = given.batch.query_y.clone()
        other[0] = other[0].flip(0)
        given = given._replace(batch=given.batch._replace(query_y=other))
    with pytest.raises(AssertionError, match=sentence):
        law(given)


def test_every_law_has_a_fault():
    assert {law for law, *_ in FAULTS} == set(laws.LAWS)
    assert torch.equal(scored(Regression()).outputs(), tasks(4).support_y.flatten(1, 2))
