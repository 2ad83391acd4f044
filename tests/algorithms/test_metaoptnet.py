import pytest
import torch

from algorithms.backbones.conv4 import Conv4
from algorithms.metaoptnet import MetaOptNet
from bench.check.tasks import random_episodes


def make(head: str, ways: int = 3) -> MetaOptNet:
    torch.manual_seed(0)
    return MetaOptNet(Conv4((1, 16, 16), downsample="stride", filters=6), ways, head=head).double()


@pytest.mark.parametrize("head", ["svm", "ridge"])
def test_outer_gradient_equals_finite_differences(head):
    learner = make(head)
    episodes = random_episodes(tasks=2, ways=3, shots=2, queries=2, seed=1)
    learner.meta_gradient(episodes)
    gradients = [p.grad.clone() for p in learner.parameters()]
    for parameter, gradient in zip(learner.parameters(), gradients, strict=True):
        entry = torch.unravel_index(gradient.abs().argmax(), gradient.shape)
        losses = []
        for step in (1e-6, -2e-6):
            parameter.data[entry] += step
            losses.append(learner.meta_gradient(episodes)["loss"].item())
        parameter.data[entry] += 1e-6
        slope = (losses[0] - losses[1]) / 2e-6
        assert gradient[entry].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_svm_logits_equal_learn2learn():
    """learn2learn solves in float32 and stops early, hence the tolerance."""
    peer = pytest.importorskip("learn2learn").nn.SVClassifier
    learner = make("svm", ways=4).eval()
    episodes = random_episodes(tasks=2, ways=4, shots=2, queries=3)
    logits = learner(*episodes[:3])
    for task in range(2):
        support = learner.backbone(episodes.support_x[task].flatten(0, 1)[None])[0].float()
        queries = learner.backbone(episodes.query_x[task][None])[0].float()
        classifier = peer(support, episodes.support_y[task].flatten(), ways=4, C_reg=0.1)
        theirs = classifier(queries).double()
        torch.testing.assert_close(logits[task], theirs, rtol=1e-2, atol=2e-3)


def test_ridge_logits_are_those_of_the_textbook():
    """With primal weights W = (F'F + lambda I)^-1 F'Y, twice that in MetaOptNet's convention."""
    learner = make("ridge").eval()
    episodes = random_episodes(tasks=1, ways=3, shots=2, queries=2)
    support = learner.backbone(episodes.support_x.flatten(1, 2))[0]
    queries = learner.backbone(episodes.query_x)[0]
    targets = torch.eye(3, dtype=torch.float64).repeat_interleave(2, 0)
    gram = support.T @ support + 50.0 * torch.eye(support.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, support.T @ targets)
    learner.scale.data.fill_(3.0)
    torch.testing.assert_close(learner(*episodes[:3])[0], 3.0 * 2 * queries @ weights)


@pytest.mark.parametrize("training", [True, False])
def test_tasks_that_are_not_solved_are_told_in_evaluation(training):
    learner = make("svm").train(training)
    episodes = random_episodes(tasks=4, ways=3, shots=2, queries=2)
    episodes.support_x[2] = torch.nan
    learner(*episodes[:3])
    told = None if learner.unsolved is None else learner.unsolved.tolist()
    assert told == (None if training else [False, False, True, False])


def test_duplicate_support_images_are_no_problem():
    learner = make("svm")
    episodes = random_episodes(tasks=2, ways=3, shots=2, queries=2)
    same = episodes.support_x[:, :, :1].expand_as(episodes.support_x).clone()
    metrics = learner.meta_gradient(episodes._replace(support_x=same))
    assert metrics["loss"].isfinite()
    assert all(p.grad.isfinite().all() for p in learner.parameters())
