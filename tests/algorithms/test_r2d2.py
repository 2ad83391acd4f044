import pytest
import torch

from algorithms.backbones.mlp import MLP
from algorithms.r2d2 import R2D2
from bench.check.tasks import random_episodes


def make(ways: int = 3, hidden: int = 9, **options: object) -> R2D2:
    torch.manual_seed(0)
    return R2D2(MLP((1, 16, 16), hidden=hidden), ways, **options).double()


@pytest.mark.parametrize("hidden", [4, 30], ids=["more images", "more features"])
@pytest.mark.parametrize("ridge_lambda", [50.0, 0.3])
def test_logits_are_those_of_least_squares_with_a_constant_feature(hidden, ridge_lambda):
    """The official code's: rows and targets over sqrt(S), and sqrt(lambda) I below, the bias's too."""
    learner = make(hidden=hidden, ridge_lambda=ridge_lambda, initial_scale=7.0)
    episodes = random_episodes(tasks=2, ways=3, shots=4, queries=2)
    logits = learner(*episodes[:3])
    lam = torch.tensor(ridge_lambda).log().double().exp()  # which is kept in float32
    for task in range(2):
        support = learner.backbone(episodes.support_x[task].flatten(0, 1)[None])[0]
        queries = learner.backbone(episodes.query_x[task][None])[0]
        rows = torch.cat((support, torch.ones(12, 1)), 1) / 12**0.5
        targets = torch.eye(3, dtype=torch.float64).repeat_interleave(4, 0) / 12**0.5
        below = lam**0.5 * torch.eye(hidden + 1, dtype=torch.float64)
        zeros = torch.zeros(hidden + 1, 3, dtype=torch.float64)
        solution = torch.linalg.lstsq(
            torch.cat((rows, below)), torch.cat((targets, zeros))
        ).solution
        expected = 7.0 * (queries @ solution[:-1] + solution[-1])
        torch.testing.assert_close(logits[task], expected)


def test_the_outer_gradient_of_lambda_and_scale_equals_finite_differences():
    learner = make(learn_lambda=True, ridge_lambda=0.5)
    episodes = random_episodes(tasks=2, ways=3, shots=2, queries=2, seed=1)
    learner.meta_gradient(episodes)
    meta_parameters = learner.log_lambda, learner.scale
    gradients = [parameter.grad.item() for parameter in meta_parameters]
    for parameter, gradient in zip(meta_parameters, gradients, strict=True):
        start = parameter.item()
        losses = []
        for step in (1e-5, -1e-5):
            parameter.data.fill_(start + step)
            losses.append(learner.meta_gradient(episodes)["loss"].item())
        parameter.data.fill_(start)
        slope = (losses[0] - losses[1]) / 2e-5
        assert abs(slope) > 1e-5 and gradient == pytest.approx(slope, rel=1e-6)


def test_lambda_is_fixed_unless_it_is_to_be_learned():
    assert make().log_lambda.requires_grad is False
    assert make(learn_lambda=True).log_lambda.requires_grad is True
    assert make(ridge_lambda=50.0).log_lambda.exp().item() == pytest.approx(50)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_a_lambda_that_is_not_positive_is_refused(wrong):
    with pytest.raises(ValueError, match="ridge_lambda must be positive"):
        make(ridge_lambda=wrong)


def test_trains_on_more_ways_than_it_is_tested_on():
    learner = make()
    learner.meta_gradient(random_episodes(tasks=1, ways=12, shots=2, queries=2))
    assert learner.scale.grad is not None
    test = random_episodes(tasks=2, ways=3, shots=1, queries=2)
    assert learner.eval()(*test[:3]).shape == (2, 6, 3)
