"""Reptile: move the initial weights towards the weights reached on each task.

Nichol, Achiam, Schulman 2018, "On First-Order Meta-Learning Algorithms" (arXiv 1803.02999). Each
task i takes S optimizer steps on mini-batches of its support set, from theta to theta_i; then

    theta <- theta + epsilon * mean_i(theta_i - theta).

Here ``meta_gradient`` leaves theta - mean_i(theta_i) in ``.grad``, so that the outer loop is plain
SGD with learning rate epsilon, decaying linearly to zero. Training has no query loss.

With ``update="last_step"``, only the last of the S steps moves theta: first-order MAML as in the
official code (``--foml``), where the last mini-batch has the role of MAML's query set.

The official inner optimizer is Adam without momentum (beta1 = 0), whose second moments persist from
task to task, and into evaluation. Here tasks run in parallel, so each starts from the mean of the
final second moments of the tasks of the previous meta-batch. All tasks of a meta-batch split their
(randomly drawn) support sets into mini-batches in the same random order.
"""

from typing import Literal

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.classifier import Classifier, FastWeights
from algorithms.learner import Learner, TaskBatch, add_gradient
from algorithms.nn.norm_statistics import BATCH_STATISTICS
from algorithms.nn.permutations import permutations
from algorithms.nn.threads import map_chunks


class Reptile(Learner):
    """Reptile on a backbone with a linear head of ``outputs`` units.

    Each task takes ``inner_steps`` steps on mini-batches of ``inner_batch`` images in training, and
    ``test_inner_steps`` on ``test_inner_batch`` images in evaluation (a batch larger than the
    support set is the support set). ``norm_statistics`` applies to evaluation; in training, batch
    norm sees one mini-batch at a time. ``update`` selects what moves the initial weights: the
    difference between them and a task's final weights, or only its last step.
    """

    accepts_any_ways = False
    norm_statistics_choices = BATCH_STATISTICS
    uses_query_loss = False
    requires_plain_sgd = True
    test_options = ("test_inner_steps", "test_inner_batch", "norm_statistics")
    meta_batches: Tensor

    def __init__(
        self,
        backbone: Backbone,
        outputs: int,
        *,
        inner_optimizer: Literal["adam", "sgd"] = "adam",
        inner_lr: float = 1e-3,
        inner_steps: int = 5,
        inner_batch: int = 10,
        test_inner_steps: int = 50,
        test_inner_batch: int = 5,
        update: Literal["all_steps", "last_step"] = "all_steps",
        norm_statistics: Literal["support", "support_and_query", "all_queries"] = "support",
    ) -> None:
        super().__init__()
        self.network = Classifier(backbone, outputs)
        self.update = update
        self.inner_optimizer = inner_optimizer
        self.inner_lr = inner_lr
        self.inner_steps, self.inner_batch = inner_steps, inner_batch
        self.test_inner_steps, self.test_inner_batch = test_inner_steps, test_inner_batch
        self.norm_statistics = norm_statistics
        self.register_buffer("meta_batches", torch.zeros((), dtype=torch.int64))
        for name, parameter in self.network.named_parameters():
            self.register_buffer(second_moment_name(name), torch.zeros_like(parameter))

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[FastWeights, Tensor]:
        """Run the test inner loop; return each task's own weights, with its support images."""
        support_x, targets = support_x.flatten(1, 2), support_y.flatten(1, 2)
        first = torch.zeros_like(self.meta_batches)
        batches = minibatches(targets.shape[1], self.test_inner_batch, self.test_inner_steps, first)
        _, fast, *_ = self._inner_loop(support_x, targets, batches)
        return fast, support_x

    def predict(self, adapted: tuple[FastWeights, Tensor], query_x: Tensor) -> Tensor:
        """Return the outputs of the queries under each task's own weights."""
        fast, support_x = adapted
        return self.network.classify(fast, support_x, query_x, self.norm_statistics)

    def meta_gradient(self, episodes: TaskBatch) -> dict[str, Tensor]:
        """Add theta - mean_i(theta_i) to ``.grad``; metrics are those of the last mini-batches.

        With ``update="last_step"``, theta stands for each task's own weights before its last step.
        """
        batches = minibatches(
            episodes.support_y.flatten(1, 2).shape[1],
            self.inner_batch,
            self.inner_steps,
            1 + self.meta_batches,
        )
        tasks = len(episodes.support_y)
        parameters = dict(self.network.named_parameters())
        losses, scores = [], []
        moments: dict[str, Tensor] = {}

        def learn(chunk: TaskBatch) -> tuple[FastWeights, FastWeights, Tensor, Tensor]:
            examples, targets = chunk.support_x.flatten(1, 2), chunk.support_y.flatten(1, 2)
            before, fast, seconds, loss, score = self._inner_loop(examples, targets, batches)
            share = len(targets) / tasks
            steps = {n: (before[n] - fast[n]).mean(0).mul_(share) for n in parameters}
            return steps, {n: v.mean(0).mul_(share) for n, v in seconds.items()}, loss, score

        device = episodes.support_x.device
        for steps, seconds, loss, score in map_chunks(learn, list(self.chunks(episodes)), device):
            for name, parameter in parameters.items():
                add_gradient(parameter, steps[name])
            for name, second in seconds.items():
                moments[name] = moments[name].add_(second) if name in moments else second
            losses.append(loss)
            scores.append(score)
        for name, moment in moments.items():
            self.get_buffer(second_moment_name(name)).copy_(moment)
        self.meta_batches += 1
        return {"loss": torch.cat(losses).mean(), "score": torch.cat(scores).mean()}

    def _inner_loop(
        self, examples: Tensor, targets: Tensor, batches: Tensor
    ) -> tuple[FastWeights, FastWeights, FastWeights, Tensor, Tensor]:
        """Run the inner loop on all batches.

        Returns:
            Each task's weights before the steps selected by ``update``, its weights and second
            moments after all batches, and the last loss and score, both [T].
        """
        fast = {
            name: weight.detach().clone().requires_grad_()
            for name, weight in self.network.fast_weights(len(targets)).items()
        }
        before = {name: p.detach() for name, p in self.network.named_parameters()}
        optimizer = self._optimizer(fast)
        losses = scores = examples.new_zeros(len(examples))
        with torch.enable_grad():
            for step, rows in enumerate(batches, 1):
                if self.update == "last_step" and step == len(batches):
                    before = {name: weight.detach().clone() for name, weight in fast.items()}
                x, y = examples.index_select(1, rows), targets.index_select(1, rows)
                outputs = self.network.logits(fast, x)
                losses = self.loss(outputs, y).mean(1)
                optimizer.zero_grad()
                losses.sum().backward()
                optimizer.step()
                if step == len(batches):
                    scores = self.loss.score(outputs, y)
        weights = {name: weight.detach() for name, weight in fast.items()}
        moments = {
            name: optimizer.state[weight]["exp_avg_sq"]
            for name, weight in fast.items()
            if self.inner_optimizer == "adam"
        }
        return before, weights, moments, losses.detach(), scores

    def _optimizer(self, fast: FastWeights) -> torch.optim.Optimizer:
        """Return the inner optimizer; it works elementwise, so one instance serves all tasks."""
        weights = list(fast.values())
        if self.inner_optimizer == "sgd":
            return torch.optim.SGD(weights, lr=self.inner_lr)
        optimizer = torch.optim.Adam(
            weights, lr=self.inner_lr, betas=(0.0, 0.999), fused=True, capturable=True
        )
        steps = (self.meta_batches * self.inner_steps).float()
        for name, weight in fast.items():
            moment = self.get_buffer(second_moment_name(name))
            optimizer.state[weight] = {
                "step": steps.clone(),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight).copy_(moment),
            }
        return optimizer


def second_moment_name(name: str) -> str:
    """Return the name of the buffer that holds the second moment of a parameter."""
    return "second_moment_" + name.replace(".", "_")


def minibatches(images: int, batch: int, count: int, number: Tensor) -> Tensor:
    """Return indices [count, batch] of mini-batches that cycle through reshuffled images.

    The shuffles are a function of ``number``, an int64 scalar, and are computed on its device: they
    need no generator and no host sync. A batch larger than the number of images contains all of
    them.
    """
    batch = min(batch, images)
    rounds = -(-batch * count // images)
    return permutations(images, rounds, number).flatten()[: batch * count].view(count, batch)
