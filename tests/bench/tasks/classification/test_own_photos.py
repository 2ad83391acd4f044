"""Tasks of a few classes of which all photographs are known, and what is stored of them."""

import numpy as np
import pandas as pd
import pytest
import torch

from algorithms.backbones.features import Features
from algorithms.centroid import NearestCentroid
from algorithms.learner import Setting
from bench.core.errors import UserError
from bench.engine.evaluate import depends_on_query_order, evaluate
from bench.stats import photos
from bench.tasks.classification.own_photos import OwnPhotos
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool

SIZES = {"ant": 5, "bee": 7, "cat": 4}
DOMAIN = OwnPhotos({name: [f"{name}/{n}.jpg" for n in range(size)] for name, size in SIZES.items()})


def source(ways: int = 3, shots: int = 1) -> EpisodeSampler:
    draw = torch.Generator().manual_seed(0)
    of_class = torch.repeat_interleave(torch.arange(3), torch.tensor([*SIZES.values()]))
    features = 2 * torch.eye(3)[of_class] + torch.randn(16, 3, generator=draw)
    pool = Pool(features, torch.tensor([0, 5, 12, 16]), tuple(SIZES))
    return EpisodeSampler(pool, Setting(ways, shots, 5), ("test",), DOMAIN)


def learner() -> NearestCentroid:
    return NearestCentroid(Features(3, adapts=False), 3)


@pytest.mark.parametrize(("ways", "shots"), [(3, 1), (2, 2)])
def test_all_others_of_a_tasks_classes_are_its_queries(ways, shots):
    sampler = source(ways, shots)
    batch, supports = sampler.draw(3, 20), sampler.indices(3, 20)
    assert batch.query_x.shape == (20, 16, 3) and supports.shape == (20, ways, shots)
    for task in range(20):
        classes = batch.classes[task].tolist()
        for photo in range(16):
            known = photo in supports[task]
            known |= DOMAIN.classes[photo] not in classes
            wanted = -1 if known else classes.index(DOMAIN.classes[photo])
            assert batch.query_y[task, photo] == wanted
    assert torch.equal(batch.query_x[7], sampler.inputs)


def test_two_photographs_of_each_class_are_left_to_be_tested_on():
    source(shots=2)
    with pytest.raises(UserError, match="shots=3 of the 4 .* 'cat' .*; ask for shots of at most 2"):
        source(shots=3)


def test_answers_are_classes_and_scores_means_over_classes():
    sampler = source(2)
    assert not depends_on_query_order(learner(), sampler)
    tested = evaluate(learner(), sampler, 50, 16)
    batch = sampler.draw(0, 50)
    answers = tested["answers"].numpy()
    assert ((answers == photos.NOT_ASKED) == (batch.query_y < 0).numpy()).all()
    for task in range(50):
        by_class = [
            np.mean(answers[task, (DOMAIN.classes == c) & (answers[task] >= 0)] == c)
            for c in batch.classes[task].tolist()
        ]
        assert tested["score"][task].item() == pytest.approx(100 * np.mean(by_class))
    score, half = DOMAIN.interval(tested)
    assert score == pytest.approx(tested["score"].mean().item()) and half > 5
    assert DOMAIN.summary(tested)["photos"] == 16


def test_rows_are_photographs_and_classes(tmp_path):
    sampler = source()
    tested = evaluate(learner(), sampler, 60, 16)
    table = DOMAIN.table(tested, sampler)
    assert list(table["photo"]) == DOMAIN.photographs and table["photo"][5] == "bee/0.jpg"
    assert table["class"].value_counts(sort=False).to_dict() == SIZES
    assert DOMAIN.interval(tested) == photos.interval(table["score"])
    files = DOMAIN.files(learner(), sampler, tested)
    (tmp_path / "classes.csv").write_text(files["classes.csv"])
    classes = pd.read_csv(tmp_path / "classes.csv", index_col="class")
    assert classes["photos"].to_dict() == SIZES
    assert classes.filter(like="as ").sum(axis=1).tolist() == pytest.approx([100, 100, 100])
    for name in SIZES:
        # photographs are queries equally often only up to the luck of the draw
        assert classes[f"as {name}"][name] == pytest.approx(classes["accuracy"][name], abs=1.5)
    assert classes["accuracy"].mean() == pytest.approx(DOMAIN.interval(tested)[0])
