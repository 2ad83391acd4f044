"""Reptile as in learn2learn's example: a copy of the network learns the tasks one by one.

The method is that of `algorithms.reptile` with ``norm_statistics="all_queries"``. The second
moments of the inner Adam carry over from one task to the next, whereas ours start all tasks of a
meta-batch from the mean of the previous one: the two agree for a meta-batch of one task, and for
``inner_optimizer="sgd"``. Torch no longer accepts the example's ``betas=(0, 0.999)``, but it
accepts 0.0.
"""

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.learn2learn.task_loop import Network, TaskLoop
from algorithms.learner import TaskBatch
from algorithms.losses import CrossEntropy
from algorithms.reptile import minibatches


class Reptile(TaskLoop):
    """Reptile on a backbone with a linear head; options as in `algorithms.reptile.Reptile`."""

    accepts_any_ways = False
    uses_query_loss = False
    requires_plain_sgd = True
    norm_statistics = "all_queries"
    meta_batches: Tensor

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        inner_optimizer: Literal["adam", "sgd"] = "adam",
        inner_lr: float = 1e-3,
        inner_steps: int = 5,
        inner_batch: int = 10,
        test_inner_steps: int = 50,
        test_inner_batch: int = 5,
    ) -> None:
        super().__init__()
        self.network = Network(backbone, ways)
        self.inner_optimizer = inner_optimizer
        self.inner_lr = inner_lr
        self.inner_steps, self.inner_batch = inner_steps, inner_batch
        self.test_inner_steps, self.test_inner_batch = test_inner_steps, test_inner_batch
        self.register_buffer("meta_batches", torch.zeros((), dtype=torch.int64))
        self.optimizer_state: dict[str, Any] = self._optimizer(self.network).state_dict()

    def adapt_one(self, support_x: Tensor, support_y: Tensor) -> nn.Module:
        """Return a copy of the network after the test inner loop."""
        first = torch.zeros_like(self.meta_batches)
        batches = minibatches(len(support_y), self.test_inner_batch, self.test_inner_steps, first)
        copied = copy.deepcopy(self.network)
        optimizer = self._optimizer(copied)
        optimizer.load_state_dict(copy.deepcopy(self.optimizer_state))
        inner_loop(copied, optimizer, support_x, support_y, batches)
        return copied

    def meta_gradient(self, episodes: TaskBatch) -> dict[str, Tensor]:
        """Add theta - mean_i(theta_i) to ``.grad``; metrics are those of the last mini-batches."""
        batches = minibatches(
            episodes.support_y[0].numel(),
            self.inner_batch,
            self.inner_steps,
            1 + self.meta_batches,
        )
        copied = copy.deepcopy(self.network)
        optimizer = self._optimizer(copied)
        losses, scores = [], []
        total = [torch.zeros_like(p) for p in self.network.parameters()]
        for x, y in zip(episodes.support_x, episodes.support_y, strict=True):
            copied.load_state_dict(self.network.state_dict())
            optimizer.load_state_dict(self.optimizer_state)
            loss, right = inner_loop(copied, optimizer, x.flatten(0, 1), y.flatten(), batches)
            self.optimizer_state = optimizer.state_dict()
            for summed, weight in zip(total, copied.parameters(), strict=True):
                summed.sub_(weight.detach())
            losses.append(loss)
            scores.append(right)
        for parameter, summed in zip(self.network.parameters(), total, strict=True):
            step = parameter.detach() + summed / len(losses)
            parameter.grad = step if parameter.grad is None else parameter.grad + step
        self.meta_batches += 1
        return {"loss": torch.stack(losses).mean(), "score": torch.stack(scores).mean()}

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of the inner optimizer, which evaluation uses, for checkpoints."""
        return {"optimizer": self.optimizer_state}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` returned."""
        self.optimizer_state = state["optimizer"]

    def _optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        if self.inner_optimizer == "sgd":
            return torch.optim.SGD(network.parameters(), lr=self.inner_lr)
        return torch.optim.Adam(network.parameters(), lr=self.inner_lr, betas=(0.0, 0.999))


def inner_loop(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    batches: Tensor,
) -> tuple[Tensor, Tensor]:
    """Train the network on the mini-batches; return the loss and score of the last one."""
    with torch.enable_grad():
        for rows in batches:
            logits = network(images[rows])
            loss = F.cross_entropy(logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.detach(), CrossEntropy().score(logits, labels[rows])
