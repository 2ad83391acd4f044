"""The plain network by its definition."""

import torch

from algorithms.backbones.mlp import MLP
from algorithms.nn.functional import with_tensors


def test_features_are_those_of_one_hidden_layer():
    """Of a 1x2 image with two channels; the second task has the weights of the first, doubled."""
    network = MLP((2, 1, 2), hidden=2)
    with torch.no_grad():
        network.hidden[0].weight.copy_(torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 2.0]]))
        network.hidden[0].bias.copy_(torch.tensor([0.5, -1.0]))
    image = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(2, 1, 2)
    images = torch.stack((image, -image)).expand(2, -1, -1, -1, -1)
    assert network.num_features == 2
    expected = torch.tensor([[0.0, 9.0], [2.5, 0.0]])
    torch.testing.assert_close(network(images), expected.expand(2, -1, -1))
    torch.testing.assert_close(network.forward_single_task(images[0]), expected)
    weights = {name: torch.stack((p, 2 * p)) for name, p in network.named_parameters()}
    per_task = with_tensors(network, weights)(images)
    torch.testing.assert_close(per_task, torch.stack((expected, 2 * expected)))
