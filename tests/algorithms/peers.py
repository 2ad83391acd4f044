"""Our learners beside those of `algorithms.learn2learn`."""

import importlib
from collections.abc import Callable
from typing import Any

import torch

from algorithms.backbones import Backbone
from algorithms.learner import Learner

CLASSES = {"maml": "MAML", "reptile": "Reptile", "protonet": "ProtoNet", "metaoptnet": "MetaOptNet"}


def pair(
    algo: str,
    backbone: Callable[[], Backbone],
    ways: int,
    options: dict[str, Any],
    own: dict[str, Any],
) -> tuple[Learner, Learner]:
    """Our learner (with the options ``own`` beside those of both) and the peer, of equal weights.

    The weights are moved away from where they start, as ones and zeros would hide mistakes.
    """

    def make(module: str, more: dict[str, Any]) -> Learner:
        learner = getattr(importlib.import_module(module), CLASSES[algo])
        return learner(backbone(), ways, **options, **more)

    torch.manual_seed(0)
    ours = make(f"algorithms.{algo}", own)
    theirs = make(f"algorithms.learn2learn.{algo}", {})
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        weights = dict(ours.named_parameters())
        for name, parameter in theirs.named_parameters():
            parameter.copy_(weights[name])
    return ours, theirs
