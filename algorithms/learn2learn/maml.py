"""MAML with ``learn2learn.algorithms.MAML``, in the loop of that library's examples.

The method is that of `algorithms.maml` with ``norm_statistics="all_queries"``: as in the examples,
batch norm uses the statistics of each batch it sees, so that predictions are transductive.
"""

import torch
import torch.nn.functional as F
from learn2learn import algorithms
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.learn2learn.task_loop import Network, TaskLoop


class MAML(TaskLoop):
    """MAML, second or first order; the options are those of `algorithms.maml.MAML`."""

    accepts_any_ways = False
    norm_statistics = "all_queries"

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        *,
        inner_steps: int = 1,
        test_inner_steps: int = 5,
        inner_lr: float = 0.1,
        second_order: bool = True,
    ) -> None:
        super().__init__()
        self.network = Network(backbone, ways)
        self.inner_steps, self.test_inner_steps = inner_steps, test_inner_steps
        self.inner_lr = inner_lr
        self.second_order = second_order
        self.order = 2 if second_order else 1

    def adapt_one(self, support_x: Tensor, support_y: Tensor) -> nn.Module:
        """Return a clone of the network after the inner loop."""
        with torch.enable_grad():
            task = algorithms.MAML(
                self.network, lr=self.inner_lr, first_order=not self.second_order
            ).clone()
            for _ in range(self.inner_steps if self.training else self.test_inner_steps):
                task.adapt(F.cross_entropy(task(support_x), support_y))
        result: nn.Module = task
        return result
