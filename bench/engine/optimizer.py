"""Outer-loop optimisation, shared by all learners: optimizer, clipping, lr schedule, augmentation."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.learner import Learner
from bench.config.schema import Train, Validation
from bench.core.errors import UserError

PLAIN_SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_value": None}
"""What `Learner.requires_plain_sgd` asks of ``train``; lr and schedule are free."""


def validate(train: Train, validation: Validation, learner: Learner) -> None:
    """Raise UserError if training options contradict each other or do not suit the learner."""
    shares = train.milestones
    if train.lr_schedule == "multistep" and not shares:
        raise UserError("train.lr_schedule=multistep needs train.milestones and train.lr_factors.")
    if len(shares) != len(train.lr_factors) or shares != sorted(set(shares)):
        raise UserError(
            f"train.milestones={shares} should be rising shares of the training, with as many "
            f"train.lr_factors, which are {train.lr_factors}."
        )
    if train.momentum and train.optimizer != "sgd":
        raise UserError("train.momentum is for train.optimizer=sgd; adam has its own.")
    other = [key for key in PLAIN_SGD if getattr(train, key) != PLAIN_SGD[key]]
    if learner.requires_plain_sgd and other:
        found, wanted = (
            " ".join(f"train.{key}={'null' if of[key] is None else of[key]}" for key in other)
            for of in (train.model_dump(), PLAIN_SGD)
        )
        raise UserError(
            f"{found} would replace the outer step of {type(learner).__name__}, which is plain SGD: give "
            f"{wanted}, or a recipe that leaves the optimizer alone, such as recipe=plain."
        )
    if train.label_smoothing and not learner.smooths_labels:
        raise UserError(
            "train.label_smoothing is of no use to this learner: it has a loss of its own."
        )
    if train.split == "train+val" and validation.times != 1:
        raise UserError(
            "train.split=train+val leaves no classes to choose parameters by: the last ones are "
            "tested, and validation.times must be 1."
        )


def build_optimizer(
    train: Train, parameters: list[nn.Parameter], lr: Tensor
) -> torch.optim.Optimizer:
    """Return the outer-loop optimizer; ``lr`` is a tensor on the device of the parameters.

    Weight decay is L2 regularisation, added to the gradient, for SGD and Adam alike.
    """
    decay = train.weight_decay
    groups = [{"params": parameters}]  # torch refuses an empty list, but not an empty group
    # A tensor lr and a capturable optimizer, so that a captured CUDA graph sees the new value.
    if train.optimizer == "adam":
        return torch.optim.Adam(groups, lr=lr, weight_decay=decay, fused=True, capturable=True)
    momentum = train.momentum
    return torch.optim.SGD(
        groups,
        lr=lr,
        momentum=momentum,
        nesterov=momentum > 0,
        weight_decay=decay,
        fused=True,
    )


def clip(train: Train, parameters: list[nn.Parameter]) -> None:
    """Clip the outer gradient, in place."""
    if train.clip_value is not None:
        nn.utils.clip_grad_value_(parameters, train.clip_value)


def lr_at(train: Train, step: int, steps: int) -> float:
    """Return the outer-loop lr at ``step`` of ``steps``; from the last step on it is constant."""
    done = min(1, step / steps)
    passed = [f for at, f in zip(train.milestones, train.lr_factors, strict=True) if done >= at]
    factor = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "step": 0.5 ** (step // train.step_size),
        "multistep": [1.0, *passed][-1],
    }[train.lr_schedule]
    return train.lr * factor


def facts(train: Train) -> dict[str, Any]:
    """Return the protocol card's entries on training that are not options as they are."""
    return {
        "train_examples": train.examples,
        "train_split": train.split,
        "meta_batch": train.meta_batch,
        "lr_schedule": schedule(train),
        "augmentation": augmentation(train),
    }


def schedule(train: Train) -> str:
    """Return a textual description of the lr schedule."""
    if train.lr_schedule == "step":
        return f"halving every {train.step_size} steps"
    if train.lr_schedule == "multistep":
        steps = zip(train.milestones, train.lr_factors, strict=True)
        return ", ".join(f"x {factor:g} from {share:.1%}" for share, factor in steps)
    return train.lr_schedule


def augmentation(train: Train) -> str:
    """Return a textual description of the augmentation of training images."""
    parts = {
        f"crop {train.crop_padding}": train.crop_padding,
        "flip": train.flip,
        f"jitter {train.jitter:g}": train.jitter,
    }
    return " + ".join(part for part, wanted in parts.items() if wanted) or "none"
