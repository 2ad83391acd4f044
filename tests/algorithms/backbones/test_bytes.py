"""The network on bytes: what it reads, and weights per task."""

import pytest
import torch

from algorithms.backbones.bytes import Bytes
from algorithms.maml import MAML
from algorithms.nn.functional import with_tensors
from bench.tasks.texts import to_bytes

TEXTS = ["card lost", "überweisung", "", "where is my card", "x", "残高"]


@pytest.fixture
def network() -> Bytes:
    torch.manual_seed(0)
    return Bytes((24,), dim=5, filters=6, width=3).double()


def padded(length: int = 0) -> torch.Tensor:
    """Two tasks of three texts each, with further zeros."""
    rows = to_bytes(TEXTS)
    return torch.nn.functional.pad(rows, (0, length)).view(2, 3, -1)


def test_features_do_not_depend_on_zeros_behind_the_text(network):
    expected = network(padded())
    assert expected.shape == (2, 3, 6) and expected[0, 2].eq(0).all()
    torch.testing.assert_close(network(padded(40)), expected)


def test_the_maximum_is_over_the_places_of_the_text_alone(network):
    """By hand: without padding, one text after the other."""
    for text, found in zip(TEXTS, network(padded()).flatten(0, 1), strict=True):
        y = network.embedding.weight[list(text.encode())].T[None]
        for layer in network.convolutions if text else ():
            y = torch.conv1d(y, layer.weight[:, :, 0], layer.bias, padding=1).relu()
        torch.testing.assert_close(found, y[0].amax(1) if text else torch.zeros_like(found))


def test_only_the_first_bytes_are_read():
    torch.manual_seed(0)
    short = Bytes((24,), length=4).eval()
    texts = to_bytes(["card lost", "card found"])[None]
    one, other = short(texts)[0]
    assert torch.equal(one, other)


def test_capitals_are_small_letters(network):
    small, large = (network(to_bytes([text])[None]) for text in ("azé@[`{", "AZé@[`{"))
    assert torch.equal(small, large)


def test_weights_per_task_are_those_of_each_task(network):
    other = Bytes((24,), dim=5, filters=6, width=3).double()
    one, two = dict(network.named_parameters()), dict(other.named_parameters())
    weights = {name: torch.stack((one[name], two[name])) for name in one}
    found = with_tensors(network, weights)(padded())
    for task, each in enumerate((network, other)):
        torch.testing.assert_close(found[task], each(padded())[task])


@pytest.mark.parametrize("second_order", [True, False])
def test_maml_learns_a_task_and_all_weights_have_gradients(network, second_order):
    learner = MAML(network, 3, second_order=second_order).double()
    texts, labels = padded().unsqueeze(2), torch.arange(3).expand(2, 3)
    logits = learner(texts, labels.unsqueeze(2), texts.flatten(1, 2))
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("options", [{"length": 0}, {"layers": 0}, {"width": 4}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="length and layers must be at least 1, and width odd"):
        Bytes((24,), **options)
