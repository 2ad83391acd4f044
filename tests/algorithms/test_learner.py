"""What all learners take from `Learner`, shown on one whose outer gradient can be derived by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from algorithms.backbones import Backbone, Convolutional
from algorithms.learner import Learner, Setting, TaskBatch, add_gradient
from algorithms.losses import CrossEntropy


class Slope(Learner):
    """Two ways, whose logits for a query x are w x and 0; it counts tasks, and keeps their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.unused = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("steps", torch.tensor(0))

    def adapt(self, support_x: Tensor, support_y: Tensor) -> None:
        pass

    def predict(self, adapted: None, query_x: Tensor) -> Tensor:
        self.mean.copy_(query_x.mean())
        self.steps += 1
        logits = self.weight * query_x
        return torch.stack((logits, torch.zeros_like(logits)), -1)


def episodes_of(*queries: float) -> TaskBatch:
    """One query of class 0 a task."""
    support = torch.zeros(len(queries), 2, 1)
    labels = torch.zeros(len(queries), 1, dtype=torch.int64)
    return TaskBatch(support, support.long(), torch.tensor(queries)[:, None], labels, labels)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("chunk_size", [None, 3, 2, 1])
def test_the_outer_gradient_is_the_mean_over_tasks_by_hand(threads, chunk_size):
    """At w = 0 the loss of a query x is log 2 and its slope -x / 2; with equal logits, 0 is right."""
    learner = Slope()
    learner.chunk_size = chunk_size
    learner.weight.grad = torch.tensor(5.0)
    metrics = learner.meta_gradient(episodes_of(1.0, 2.0, 3.0, 4.0, 10.0))
    assert learner.weight.grad.item() == pytest.approx(5 - 4 / 2)
    assert learner.unused.grad is None
    assert metrics["loss"].item() == pytest.approx(math.log(2))
    assert metrics["score"] == 100
    assert learner.mean.item() == pytest.approx(4)
    assert learner.steps == 1


@pytest.mark.parametrize(
    ("at_once", "by_one", "by_two"),
    [
        (None, [10], [10]),
        (16, [10], [5, 5]),
        (4, [4, 4, 2], [3, 3, 3, 1]),
        (1, [1] * 10, [1] * 10),
    ],
)
def test_chunks_are_few_alike_and_as_many_for_each_thread(threads, at_once, by_one, by_two):
    learner = Slope()
    learner.chunk_size = at_once
    chunks = list(learner.chunks(episodes_of(*range(10))))
    assert [len(chunk.query_x) for chunk in chunks] == {1: by_one, 2: by_two}[threads]
    assert torch.cat([chunk.query_x for chunk in chunks]).flatten().tolist() == list(range(10))
    assert all(len(part) == len(chunk.query_x) for chunk in chunks for part in chunk)


def test_what_cannot_be_trained_is_refused_with_the_reason():
    learner = Slope()
    other_ways = Setting(5, 1, 3), Setting(2, 1, 3)
    assert learner.supports(*other_ways) == (True, "")
    learner.accepts_any_ways = False
    possible, reason = learner.supports(*other_ways)
    assert not possible and "train.ways must be 2" in reason
    assert learner.supports(Setting(2, 1, 3), Setting(2, 5, 1)) == (True, "")
    possible, reason = learner.supports(Setting(2, 1, 0), Setting(2, 1, 1))
    assert not possible and "train.queries must be at least 1" in reason
    assert learner.supports(Setting(2, 1, 1), Setting(2, 1, 1)) == (True, "")
    learner.uses_query_loss = False
    possible, reason = learner.supports(Setting(2, 1, 1), Setting(2, 1, 1))
    assert not possible and "train.queries must be 0" in reason
    assert learner.supports(Setting(2, 1, 0), Setting(2, 1, 1)) == (True, "")


def test_accuracy_is_the_share_of_right_answers_of_each_task():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]], [[1.0, 2.0]] * 3])
    found = CrossEntropy().score(logits, torch.tensor([[0, 1, 1], [0, 0, 0]]))
    torch.testing.assert_close(found, torch.tensor([200 / 3, 0.0]))


def test_gradients_lie_in_memory_as_their_parameters_do():
    parameter = nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    for total in (1, 2):
        add_gradient(parameter, torch.ones(2, 3, 4, 4))
        assert parameter.grad.stride() == parameter.stride()
        assert parameter.grad.eq(total).all()


def test_a_method_that_is_left_out_is_an_error():
    images, labels = torch.zeros(1, 2, 1, 1, 4, 4), torch.tensor([[[0], [1]]])
    for half in (Learner().adapt, Learner().predict):
        with pytest.raises(NotImplementedError):
            half(images, labels)
    with pytest.raises(NotImplementedError):
        Backbone()(images.flatten(1, 2))
    with pytest.raises(NotImplementedError):
        Convolutional("mean").forward_single_task(images[0, :, 0])
