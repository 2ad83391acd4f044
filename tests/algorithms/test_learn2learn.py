"""Our learners and learn2learn's do the same: the comparison of their speeds is about speed alone."""

import pytest
import torch

from algorithms.backbones import Backbone
from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.mlp import MLP
from bench.check.tasks import random_episodes
from tests.algorithms.peers import pair

pytest.importorskip("learn2learn")

WAYS = 3


@pytest.fixture(autouse=True)
def double_precision():
    """learn2learn's SVM makes its one-hot labels in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


BATCH = {"norm_statistics": "all_queries"}
CASES = {
    "maml": ("maml", 3, {"test_inner_steps": 2}, BATCH),
    "maml, 3 steps": (
        "maml",
        3,
        {"inner_steps": 3, "test_inner_steps": 4, "inner_lr": 0.1},
        BATCH,
    ),
    "maml, first order": (
        "maml",
        3,
        {"second_order": False, "inner_steps": 2, "test_inner_steps": 2},
        BATCH,
    ),
    "reptile": ("reptile", 1, {"test_inner_steps": 6}, BATCH),
    "reptile, sgd": ("reptile", 3, {"inner_optimizer": "sgd", "inner_lr": 0.1}, BATCH),
    "protonet": ("protonet", 1, {}, {}),
    "protonet, 3 tasks": ("protonet", 3, {}, {}),
    "metaoptnet": ("metaoptnet", 1, {"initial_scale": 3.0}, {}),
    "metaoptnet, 3 tasks": ("metaoptnet", 3, {"initial_scale": 3.0}, {}),
}
# However many steps qpth is allowed, its gradient stays 1e-7 and more away from finite differences,
# which ours meets (test_svm.py).
CLOSE = {"metaoptnet": 2e-5, "metaoptnet, 3 tasks": 2e-5}


@pytest.mark.parametrize("backbone", ["stride", "pool", "mlp"])
@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_answers_are_those_of_learn2learn(case, backbone):
    algo, tasks, options, own = CASES[case]
    tolerance = dict.fromkeys(("rtol", "atol"), CLOSE.get(case, 1e-8))

    def network() -> Backbone:
        if backbone == "mlp":
            return MLP((1, 16, 16), hidden=16)
        return Conv4((1, 16, 16), filters=4, downsample=backbone)

    ours, theirs = pair(algo, network, WAYS, options, own)
    queries = 0 if algo == "reptile" else 3
    optimizers = [torch.optim.SGD(learner.parameters(), lr=0.05) for learner in (ours, theirs)]
    for meta_batch in range(3):  # Reptile's inner optimizer carries over from one to the next
        episodes = random_episodes(tasks, WAYS, shots=4, queries=queries, seed=meta_batch)
        results = []
        for learner, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            results.append(learner.meta_gradient(episodes))
        torch.testing.assert_close(*results, **tolerance)
        expected = {name: p.grad for name, p in theirs.named_parameters()}
        found = {n: p.grad for n, p in ours.named_parameters() if n in expected}
        torch.testing.assert_close(found, expected, **tolerance)
        assert max(g.abs().max() for g in expected.values()) > 1e-4
        for optimizer in optimizers:
            optimizer.step()

    if tasks > 1:  # running statistics move once a meta-batch in ours, once a task in the peer
        with torch.no_grad():
            for name, buffer in theirs.named_buffers():
                buffer.copy_(ours.get_buffer(name))
    test = random_episodes(2, WAYS, shots=2, queries=3, seed=9)
    with torch.no_grad():
        logits = [learner.eval()(*test[:3]) for learner in (ours, theirs)]
    torch.testing.assert_close(*logits, **tolerance)
