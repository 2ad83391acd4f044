"""Scores of episodes: by hand, by a plain loop, and by the learner that has them."""

import math

import numpy as np
import torch

from algorithms.learner import Setting, TaskBatch
from bench.engine.evaluate import to_float
from bench.tasks.classification.domain import BINS, Classification, scores
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool


def pooled_ece(made: dict[str, torch.Tensor]) -> float:
    return Classification().summary(made)["ece"]


def test_scores_by_hand():
    """Two queries of two ways: sure of the right answer by 3/4, then of the wrong one by 3/5."""
    logits = torch.tensor([[[3.0, 1.0], [2.0, 3.0]]]).log()
    made = scores(logits, torch.tensor([[0, 0]]))
    assert made["score"].tolist() == [50.0]
    torch.testing.assert_close(made["loss"].item(), -(math.log(0.75) + math.log(0.4)) / 2)
    torch.testing.assert_close(made["brier"].item(), (2 * 0.25**2 + 2 * 0.6**2) / 2)
    torch.testing.assert_close(made["ece"].item(), 100 * (0.25 + 0.6) / 2)
    torch.testing.assert_close(pooled_ece(made), made["ece"].item())
    assert {part.dtype for part in made.values()} == {torch.float64}


def test_calibration_is_that_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(30, 75, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (30, 75), generator=generator)
    made = scores(logits, labels)
    likelihoods = logits.softmax(-1).numpy()

    def ece(likelihoods: np.ndarray, labels: np.ndarray) -> float:
        confidence, right = likelihoods.max(1), likelihoods.argmax(1) == labels
        error = 0.0
        for edge in range(BINS):
            inside = (confidence > edge / BINS) & (confidence <= (edge + 1) / BINS)
            if inside.any():
                gap = abs(right[inside].mean() - confidence[inside].mean())
                error += 100 * gap * inside.mean()
        return error

    for each, values, answers in zip(made["ece"], likelihoods, labels.numpy(), strict=True):
        np.testing.assert_allclose(each.item(), ece(values, answers))
    pooled = ece(likelihoods.reshape(-1, 5), labels.numpy().ravel())
    np.testing.assert_allclose(pooled_ece(made), pooled)
    squares = (likelihoods - np.eye(5)[labels.numpy()]) ** 2
    np.testing.assert_allclose(made["brier"], squares.sum(2).mean(1))


def test_calibration_knows_the_honest_from_the_boastful():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(600, 75, 5, generator=generator)
    labels = torch.distributions.Categorical(logits=logits).mode
    drawn = torch.multinomial(logits.softmax(-1).flatten(0, 1), 1, generator=generator)
    honest = scores(logits, drawn.view(600, 75))
    assert (
        pooled_ece(honest) < 1 < 5 < honest["ece"].mean()
    )  # few queries in each bin of an episode
    assert pooled_ece(scores(5 * logits, drawn.view(600, 75))) > 20
    assert pooled_ece(scores(logits, labels)) > 20  # too modest counts as well


def test_certainty_and_even_odds_have_their_bins():
    made = scores(torch.tensor([[[1e4, 0.0, 0.0], [0.0, 0.0, 0.0]]]), torch.tensor([[0, 1]]))
    assert made["gaps"].isfinite().all() and made["gaps"][0, -1] == 0
    torch.testing.assert_close(made["gaps"][0, 4].item(), -1 / 6)  # a third, and index 0 is wrong


def test_the_first_bin_is_for_the_least_certain_of_many_ways():
    made = scores(torch.zeros(1, 1, 20), torch.tensor([[3]]))
    torch.testing.assert_close(made["gaps"][0, 0].item(), -1 / 20)
    assert made["gaps"][0, 1:].eq(0).all()


def test_images_are_scaled_to_0_and_1():
    bytes_ = torch.arange(256, dtype=torch.uint8)
    support, query = bytes_.view(1, 1, 4, 1, 8, 8), bytes_.flip(0).view(1, 4, 1, 8, 8)
    none = torch.zeros(1, 4, dtype=torch.int64)
    made = to_float(TaskBatch(support, none[:, None], query, none, none))
    assert torch.equal(made.support_x.flatten(), torch.arange(256) / 255)
    assert torch.equal(made.query_x.flatten(), torch.arange(256).flip(0) / 255)


def test_classes_of_episodes_are_those_of_their_images():
    pool = Pool.of({str(c): torch.full((7 + c, 1, 2, 2), c).byte() for c in range(9)})
    sampler = EpisodeSampler(pool, Setting(5, 1, 2), ("test",))
    shown = sampler.draw(3, 20).support_x[:, :, 0, 0, 0, 0]
    assert torch.equal(sampler.classes(3, 20), shown.long())
