"""Layers with shared weights and with weights of each task, beside torch's own."""

import pytest
import torch
import torch.nn.functional as F

from algorithms.nn.layers import BatchNorm2d, Conv2d, Linear, from_grouped, to_grouped

TASKS, IMAGES = 2, 3


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_maps_of_tasks_come_back_as_flat_features_in_their_order():
    x = random(TASKS, IMAGES, 4, 5, 6)
    for per_task in (False, True):
        folded = to_grouped(x, per_task)
        assert folded.shape == (
            (IMAGES, TASKS * 4, 5, 6) if per_task else (TASKS * IMAGES, 4, 5, 6)
        )
        assert folded.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(from_grouped(folded, TASKS, per_task), x.flatten(2))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_with_weights_of_each_task_is_one_convolution_a_task(bias, order):
    layer = Conv2d(4, 2, 3, 2, padding=1, bias=bias).double()
    layer.order = order
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    x, weights = random(TASKS, IMAGES, 4, 5, 6), random(TASKS, 2, 4, 3, 3)
    biases = random(TASKS, 2) if bias else [None] * TASKS
    alone = [F.conv2d(*each, 2, 1) for each in zip(x, weights, biases, strict=True)]
    layer._parameters |= {"weight": weights} | ({"bias": biases} if bias else {})
    found = from_grouped(layer(to_grouped(x, True)), TASKS, True)
    torch.testing.assert_close(found, torch.stack(alone).flatten(2))


def test_a_padding_with_a_name_is_torchs():
    layer = Conv2d(4, 2, 3, padding="same", bias=False).double()
    layer.order = 2
    x, weights = random(TASKS, IMAGES, 4, 5, 6), random(TASKS, 2, 4, 3, 3)
    alone = [F.conv2d(*each, padding=1) for each in zip(x, weights, strict=True)]
    layer._parameters |= {"weight": weights}
    found = from_grouped(layer(to_grouped(x, True)), TASKS, True)
    torch.testing.assert_close(found, torch.stack(alone).flatten(2))


def test_a_linear_layer_with_weights_of_each_task_is_one_layer_a_task():
    layer = Linear(4, 2).double()
    x = random(TASKS, IMAGES, 4)
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias)
    weights, biases = random(TASKS, 2, 4), random(TASKS, 2)
    layer._parameters |= {"weight": weights, "bias": biases}
    alone = [F.linear(*each) for each in zip(x, weights, biases, strict=True)]
    torch.testing.assert_close(layer(x), torch.stack(alone))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("stats_from", [None, 2])
@pytest.mark.parametrize(("tasks", "channels"), [(TASKS, 4), (1, 1)])
def test_batch_norm_with_weights_of_each_task_is_one_batch_norm_a_task(
    stats_from, order, tasks, channels
):
    """By the images of the task, or its first ones; a single pixel is its own mean."""
    layer = BatchNorm2d(channels).double()
    layer.order = order
    weights, biases = random(tasks, channels), random(tasks, channels) - 1
    layer._parameters |= {"weight": weights, "bias": biases}
    for images, size in ((IMAGES, 5), (IMAGES, 1), (1, 1)):
        x = random(tasks, images, channels, size, size)
        mean = x[:, :stats_from].mean((1, 3, 4), keepdim=True)
        variance = x[:, :stats_from].var((1, 3, 4), correction=0, keepdim=True)
        normal = (x - mean) / (variance + layer.eps).sqrt()
        expected = normal * weights[:, None, :, None, None] + biases[:, None, :, None, None]
        found = from_grouped(layer(to_grouped(x, True), stats_from), tasks, True)
        torch.testing.assert_close(found, expected.flatten(2))


def test_running_statistics_follow_the_mean_of_the_tasks():
    """From 0 and 1, a tenth of the way (torch's momentum) to the means over the tasks."""
    layer = BatchNorm2d(4).double()
    x = random(TASKS, IMAGES, 4, 5, 5)
    found = layer(to_grouped(x, False), tasks=TASKS)
    alone = torch.cat([F.batch_norm(task, None, None, training=True) for task in x])
    torch.testing.assert_close(found, alone)
    torch.testing.assert_close(layer.running_mean, 0.1 * x.mean((1, 3, 4)).mean(0))
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * x.var((1, 3, 4)).mean(0))
    assert layer.num_batches_tracked == 1
    before = layer.running_mean.clone()
    expected = F.batch_norm(to_grouped(x, False), layer.running_mean, layer.running_var)
    torch.testing.assert_close(layer.eval()(to_grouped(x, False), tasks=TASKS), expected)
    assert torch.equal(layer.running_mean, before)


def test_a_batch_is_that_of_one_task_unless_tasks_are_named():
    x = random(4, 3, 5, 5)
    expected = F.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(BatchNorm2d(3).double()(x), expected)
