"""How the outer loop trains, for all learners alike: optimizer, step size, smoothing, augmentation."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.learner import Learner
from bench.config import Train, Validation
from bench.mistake import Mistake


def check(train: Train, validation: Validation, learner: Learner) -> None:
    """Raises Mistake where keys do not fit each other or the learner."""
    shares = train.step_at
    if train.schedule == "steps" and not shares:
        raise Mistake("train.schedule=steps needs train.step_at and train.step_factors.")
    if len(shares) != len(train.step_factors) or shares != sorted(set(shares)):
        raise Mistake(
            f"train.step_at={shares} should be rising shares of the training, with as many "
            f"train.step_factors, which are {train.step_factors}."
        )
    if train.momentum and train.optimizer != "sgd":
        raise Mistake("train.momentum is for train.optimizer=sgd; adam has its own.")
    if train.label_smoothing and not learner.smooths_labels:
        raise Mistake(
            "train.label_smoothing is of no use to this learner: it has a loss of its own."
        )
    if train.split == "train+val" and validation.times != 1:
        raise Mistake(
            "train.split=train+val leaves no classes to choose parameters by: the last ones are "
            "tested, and validation.times must be 1."
        )


def optimizer(train: Train, parameters: list[nn.Parameter], rate: Tensor) -> torch.optim.Optimizer:
    """The optimizer of the outer loop, whose step size is ``rate``, a tensor on their device.

    Weight decay adds its share of a parameter to the gradient, for SGD and Adam alike.
    """
    decay = train.weight_decay
    groups = [{"params": parameters}]  # a list of parameters may not be empty, a group's may
    # The rate is a tensor and the optimizer capturable, so that a recorded step reads them anew.
    if train.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=True, capturable=True)
    momentum = train.momentum
    return torch.optim.SGD(
        groups,
        lr=rate,
        momentum=momentum,
        nesterov=momentum > 0,
        weight_decay=decay,
        fused=True,
    )


def rate_at(train: Train, step: int, steps: int) -> float:
    """The step size of the outer loop at a step of so many; that of the end afterwards."""
    done = min(1, step / steps)
    passed = [f for at, f in zip(train.step_at, train.step_factors, strict=True) if done >= at]
    factor = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "halving": 0.5 ** (step // train.halving_steps),
        "steps": [1.0, *passed][-1],
    }[train.schedule]
    return train.rate * factor


def facts(train: Train) -> dict[str, Any]:
    """What the protocol card says of the recipe."""
    return {
        "train_images": train.images,
        "train_split": train.split,
        "meta_batch": train.meta_batch,
        "optimizer": train.optimizer,
        "momentum": train.momentum,
        "weight_decay": train.weight_decay,
        "rate": train.rate,
        "schedule": schedule(train),
        "clip_value": train.clip_value,
        "label_smoothing": train.label_smoothing,
        "augmentation": augmentation(train),
    }


def schedule(train: Train) -> str:
    """How the step size of the outer loop falls, in words."""
    if train.schedule == "halving":
        return f"halving every {train.halving_steps} steps"
    if train.schedule == "steps":
        steps = zip(train.step_at, train.step_factors, strict=True)
        return ", ".join(f"x {factor:g} from {share:.1%}" for share, factor in steps)
    return train.schedule


def augmentation(train: Train) -> str:
    """How training images are changed at random, in words."""
    parts = {
        f"crop {train.crop_padding}": train.crop_padding,
        "flip": train.flip,
        f"jitter {train.jitter:g}": train.jitter,
    }
    return " + ".join(part for part, wanted in parts.items() if wanted) or "none"
