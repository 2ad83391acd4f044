"""Learners that fail in one of torchrun's processes alone."""

import os
import signal

from torch import Tensor

from algorithms.learner import TaskBatch
from algorithms.protonet import ProtoNet


class Failing(ProtoNet):
    """Prototypical networks whose fourth step fails in the second process."""

    steps = 0

    def meta_gradient(self, episodes: TaskBatch) -> dict[str, Tensor]:
        self.steps += 1
        if self.steps == 4 and os.environ["RANK"] == "1":
            raise ValueError("the fourth step is too much")
        return super().meta_gradient(episodes)


class Dying(ProtoNet):
    """Prototypical networks that kill the second process in the fourth step of the first attempt."""

    steps = 0

    def meta_gradient(self, episodes: TaskBatch) -> dict[str, Tensor]:
        self.steps += 1
        attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        if self.steps == 4 and os.environ["RANK"] == "1" and attempt == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().meta_gradient(episodes)
