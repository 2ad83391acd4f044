"""``torchrun --nproc-per-node=2 -m tests.bench.steps FILE``: where outer steps lead, in float64."""

import sys
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.resnet12 import ResNet12
from algorithms.learner import Setting, TaskBatch
from algorithms.losses import CrossEntropy
from bench.config import groups, schema
from bench.config.compose import composed
from bench.engine import train
from bench.engine.distributed import init_distributed, process_group
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool
from tests.bench.small import PLAIN
from tests.choices import OF_CLASSES, UNTRAINED

STEPS = 20
ALGOS = [name for name in groups.names("algo") if name in OF_CLASSES and name not in UNTRAINED]
CHANGED = ["maml, changed images", "protonet, changed images"]
"""Learners with augmentation, label smoothing where they have it, and a network that drops maps."""

# Where a gradient is zero but for rounding, Adam would divide one rounding error by another.
SGD = {"optimizer": "sgd", "momentum": 0.9, "lr": 0.01}


AUGMENTATION = {"crop_padding": 2, "flip": True, "jitter": 0.4}


def to_double(episodes: TaskBatch) -> TaskBatch:
    return episodes._replace(
        support_x=episodes.support_x.double() / 255, query_x=episodes.query_x.double() / 255
    )


def ends() -> dict[str, dict[str, Tensor]]:
    """The parameters and buffers of each learner after its steps, each on 5 tasks in chunks of 2.

    Also the loss of the last step, and how far the steps moved a parameter at most.
    """
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    images = torch.randint(256, (60, 3, 16, 16), dtype=torch.uint8)
    pool = Pool(images, torch.arange(0, 61, 10), tuple("abcdef"))
    plan = PLAIN | SGD | {"examples": 10**4, "meta_batch": 5, "ways": 3, "shots": 2, "queries": 4}
    found = {}
    try:
        for case in ALGOS + CHANGED:
            algo, _, changed = case.partition(", ")
            code = schema.Component.model_validate(composed(f"algo={algo}")["algo"])
            method = code.resolve()
            torch.manual_seed(0)
            network = Conv4((3, 16, 16), filters=4)
            if changed:
                network = ResNet12((3, 16, 16), filters=2, drop_rate=0.3, drop_steps=4)
            learner = method(network, 6 if method.trains_classifier else 3, **code.options).train()
            learner.chunk_size = 2
            shape = Setting(3, 2, 4 if method.uses_query_loss else 0)
            sampler = EpisodeSampler(pool, shape, ("a",))
            if changed and learner.smooths_labels:
                learner.loss = CrossEntropy(label_smoothing=0.1)
            recipe = plan | (AUGMENTATION if changed else {})
            loop = train.OuterLoop(
                learner, sampler, schema.Train.model_validate(recipe), process_group()
            )
            begun = torch.cat([p.detach().flatten() for p in learner.parameters()])
            with patch.object(train, "to_float", to_double):
                for _ in range(8 if changed else STEPS):  # more cost time, and rounding grows
                    loss = loop.advance()["loss"]
            ended = torch.cat([p.detach().flatten() for p in learner.parameters()])
            moved = (ended - begun).abs().max()
            found[case] = learner.state_dict() | {"the loss": loss, "moved": moved}
    finally:
        torch.set_default_dtype(torch.float32)
    return found


if __name__ == "__main__":
    with init_distributed():
        states = ends()
        if process_group().is_main:
            torch.save(states, Path(sys.argv[1]))
