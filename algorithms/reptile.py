"""Reptile: move the initial weights towards the weights that each task ends at.

Nichol, Achiam, Schulman 2018, "On First-Order Meta-Learning Algorithms" (arXiv 1803.02999). Each
task i takes S optimizer steps on mini-batches of its support set, from theta to theta_i; then

    theta <- theta + epsilon * mean_i(theta_i - theta).

Here ``meta_gradient`` leaves theta - mean_i(theta_i) in ``.grad``, so that plain SGD with rate
epsilon, falling linearly to zero, is the outer loop. There is no query loss in training.

With ``update="last_step"``, only the last of the S steps moves theta: first-order MAML as the official
code has it (``--foml``), where the last mini-batch is what a query set is to MAML.

The official inner optimizer is Adam without momentum (beta1 = 0), whose second moments live on from
task to task, into evaluation too. Tasks run side by side here, so each starts from the mean of
the second moments at which the tasks of the last meta-batch ended. All tasks of a meta-batch
cut their (randomly drawn) support sets into mini-batches by the same random order.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.classifier import Classifier, FastWeights
from algorithms.learner import Episodes, Learner, accuracy, add_gradient
from algorithms.shuffles import shuffles
from algorithms.statistics import OF_BATCHES
from algorithms.threads import side_by_side


class Reptile(Learner):
    """Reptile on a backbone with a linear head for N ways.

    ``inner_steps`` mini-batches of ``inner_batch`` images are learned from in training,
    ``test_inner_steps`` of ``test_inner_batch`` images in evaluation (batches larger than the
    support set are the support set). ``statistics`` holds for evaluation; in training, batch norm
    sees one mini-batch at a time. ``update`` is what moves the initial weights: the way from them to
    those of a task, or its last step.
    """

    any_ways = False
    statistics_choices = OF_BATCHES
    learns_from_queries = False
    test_options = ("test_inner_steps", "test_inner_batch", "statistics")
    meta_batches: Tensor

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        inner_optimizer: Literal["adam", "sgd"] = "adam",
        inner_rate: float = 1e-3,
        inner_steps: int = 5,
        inner_batch: int = 10,
        test_inner_steps: int = 50,
        test_inner_batch: int = 5,
        update: Literal["all_steps", "last_step"] = "all_steps",
        statistics: Literal["support", "one_query", "queries"] = "support",
    ) -> None:
        super().__init__()
        self.network = Classifier(backbone, ways)
        self.update = update
        self.inner_optimizer = inner_optimizer
        self.inner_rate = inner_rate
        self.inner_steps, self.inner_batch = inner_steps, inner_batch
        self.test_inner_steps, self.test_inner_batch = test_inner_steps, test_inner_batch
        self.statistics = statistics
        self.register_buffer("meta_batches", torch.zeros((), dtype=torch.int64))
        for name, parameter in self.network.named_parameters():
            self.register_buffer(moment_of(name), torch.zeros_like(parameter))

    def adapt(self, support_x: Tensor, support_y: Tensor) -> tuple[FastWeights, Tensor]:
        """Run the test inner loop: each task's own weights, with its support images for `predict`."""
        support_x, labels = support_x.flatten(1, 2), support_y.flatten(1)
        first = torch.zeros_like(self.meta_batches)
        batches = minibatches(labels.shape[1], self.test_inner_batch, self.test_inner_steps, first)
        _, fast, *_ = self._inner_loop(support_x, labels, batches)
        return fast, support_x

    def predict(self, adapted: tuple[FastWeights, Tensor], query_x: Tensor) -> Tensor:
        """Classify the queries under each task's own weights."""
        fast, support_x = adapted
        return self.network.classify(fast, support_x, query_x, self.statistics)

    def meta_gradient(self, episodes: Episodes) -> dict[str, Tensor]:
        """Add theta - mean_i(theta_i) to ``.grad``; metrics are those of the last mini-batches.

        With ``update="last_step"``, theta is each task's own weights before its last step.
        """
        batches = minibatches(
            episodes.support_y[0].numel(),
            self.inner_batch,
            self.inner_steps,
            1 + self.meta_batches,
        )
        tasks = len(episodes.support_y)
        parameters = dict(self.network.named_parameters())
        losses, accuracies = [], []
        moments: dict[str, Tensor] = {}

        def learn(chunk: Episodes) -> tuple[FastWeights, FastWeights, Tensor, Tensor]:
            images, labels = chunk.support_x.flatten(1, 2), chunk.support_y.flatten(1)
            before, fast, seconds, loss, right = self._inner_loop(images, labels, batches)
            share = len(labels) / tasks
            steps = {n: (before[n] - fast[n]).mean(0).mul_(share) for n in parameters}
            return steps, {n: v.mean(0).mul_(share) for n, v in seconds.items()}, loss, right

        device = episodes.support_x.device
        for steps, seconds, loss, right in side_by_side(learn, list(self.chunks(episodes)), device):
            for name, parameter in parameters.items():
                add_gradient(parameter, steps[name])
            for name, second in seconds.items():
                moments[name] = moments[name].add_(second) if name in moments else second
            losses.append(loss)
            accuracies.append(right)
        for name, moment in moments.items():
            self.get_buffer(moment_of(name)).copy_(moment)
        self.meta_batches += 1
        return {"loss": torch.cat(losses).mean(), "accuracy": torch.cat(accuracies).mean()}

    def _inner_loop(
        self, images: Tensor, labels: Tensor, batches: Tensor
    ) -> tuple[FastWeights, FastWeights, FastWeights, Tensor, Tensor]:
        """Each task's weights before the steps of ``update`` and after all batches, its second moments
        then, and the last loss and accuracy, both [T].
        """
        fast = {
            name: weight.detach().clone().requires_grad_()
            for name, weight in self.network.fast_weights(len(labels)).items()
        }
        before = {name: p.detach() for name, p in self.network.named_parameters()}
        optimizer = self._optimizer(fast)
        with torch.enable_grad():
            for step, rows in enumerate(batches, 1):
                if self.update == "last_step" and step == len(batches):
                    before = {name: weight.detach().clone() for name, weight in fast.items()}
                x, y = images.index_select(1, rows), labels.index_select(1, rows)
                logits = self.network.logits(fast, x)
                losses = F.cross_entropy(logits.mT, y, reduction="none").mean(1)
                optimizer.zero_grad()
                losses.sum().backward()
                optimizer.step()
        weights = {name: weight.detach() for name, weight in fast.items()}
        moments = {
            name: optimizer.state[weight]["exp_avg_sq"]
            for name, weight in fast.items()
            if self.inner_optimizer == "adam"
        }
        return before, weights, moments, losses.detach(), accuracy(logits, y)

    def _optimizer(self, fast: FastWeights) -> torch.optim.Optimizer:
        """The inner optimizer; it works element by element, so one serves all tasks at once."""
        weights = list(fast.values())
        if self.inner_optimizer == "sgd":
            return torch.optim.SGD(weights, lr=self.inner_rate)
        optimizer = torch.optim.Adam(
            weights, lr=self.inner_rate, betas=(0.0, 0.999), fused=True, capturable=True
        )
        steps = (self.meta_batches * self.inner_steps).float()
        for name, weight in fast.items():
            moment = self.get_buffer(moment_of(name))
            optimizer.state[weight] = {
                "step": steps.clone(),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight).copy_(moment),
            }
        return optimizer


def moment_of(name: str) -> str:
    """The buffer that holds the second moment of a parameter."""
    return "second_moment_" + name.replace(".", "_")


def minibatches(images: int, batch: int, count: int, number: Tensor) -> Tensor:
    """Rows [count, batch] of mini-batches that walk through the images, newly shuffled each time.

    The shuffles are a function of ``number``, an int64 scalar, on its device; they need no generator
    and no waiting. A batch larger than the images is all of them.
    """
    batch = min(batch, images)
    rounds = -(-batch * count // images)
    return shuffles(images, rounds, number).flatten()[: batch * count].view(count, batch)
