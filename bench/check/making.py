"""Laws of the construction of every learner. A law is a function of a configuration.

It builds the learner itself, in float64, for `laws.WAYS` ways and images of `laws.IMAGE`, which a
backbone of texts reads as `Texts`.
"""

import copy
import math
from collections.abc import Callable
from hashlib import sha256

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.backbones.encoder import Encoder
from algorithms.learner import Learner
from algorithms.nn.dropout import advance_step
from bench.check.elsewhere import elsewhere
from bench.check.laws import (
    IMAGE,
    WAYS,
    classify,
    default_dtype,
    gradients_of,
    outer_optimizer,
    require,
    training_episodes,
    warmed_up,
)
from bench.check.tasks import random_episodes
from bench.config.schema import Config

Law = Callable[[Config], None]


class Texts(Backbone):
    """A backbone of texts that takes images: a letter for each pixel, light ones late in the alphabet.

    It takes what an encoder makes of texts likewise: as many numbers of tokens, or the pixels
    themselves as ``size`` features.
    """

    def __init__(self, backbone: Backbone, dtype: torch.dtype, size: int) -> None:
        super().__init__()
        self.backbone, self.dtype, self.size = backbone, dtype, size
        self.num_features = backbone.num_features
        self.not_adapted = tuple(f"backbone.{name}" for name in backbone.not_adapted)

    @classmethod
    def of(cls, network: Backbone, adapts: bool) -> "Texts":
        """Return it for a backbone, or for that of a learner (which ``adapts`` it) on an encoder."""
        if isinstance(network, Encoder):
            return cls(network.backbone(adapts), network.dtype, network.num_features)
        return cls(network, torch.uint8, math.prod(IMAGE))

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the features of images [T, B, C, H, W]."""
        pixels = x.flatten(2)
        if self.dtype.is_floating_point:
            copies = -(-self.size // pixels.shape[2])
            features: Tensor = self.backbone(pixels.repeat(1, 1, copies)[..., : self.size])
        else:
            features = self.backbone((ord("a") + 13 * pixels).to(self.dtype))
        return features.to(x.dtype)


def learner_of(config: Config) -> Learner:
    """Return the learner of a configuration in float64, with initial running statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = config.backbone.resolve()(IMAGE, **config.backbone.options)
        method = config.algo.resolve()
        if backbone.reads_texts:
            backbone = Texts.of(backbone, getattr(method, "trains_backbone", True))
        result: Learner = method(backbone, WAYS, **config.algo.options).double()
        return result


def takes_a_step(config: Config) -> None:
    """It can be made, and takes a training step."""
    warmed_up(learner_of(config))


def goes_on_from_a_checkpoint(config: Config) -> None:
    """Made anew from its ``state_dict`` it goes on, to the bit: it keeps no other state."""
    learner = learner_of(config)
    optimizer = outer_optimizer(learner)
    test = random_episodes(2, WAYS, shots=2, queries=2)
    for seed in (1, 2):
        optimizer.zero_grad()
        learner.train().meta_gradient(training_episodes(learner, seed=seed))
        optimizer.step()
        advance_step(learner)
        classify(learner.eval(), test)
    optimizer.zero_grad()
    fresh = learner_of(config)
    fresh.load_state_dict(copy.deepcopy(learner.state_dict()))
    answers = [classify(each.eval(), test) for each in (learner, fresh)]
    require(torch.equal(*answers), "its answers are others")
    for each in (learner, fresh):
        each.train().meta_gradient(training_episodes(each, seed=3))
    for one, two in zip(gradients_of(learner), gradients_of(fresh), strict=True):
        require(torch.equal(one, two), "its next outer gradient is another")


def the_seed_makes_its_weights(config: Config) -> None:
    """Made in another process, with another hash seed, it has the same weights."""
    here, there = initial_weights(config), elsewhere(initial_weights, config)
    others = ", ".join(name for name in here if there.get(name) != here[name])
    require(not others, f"there, {others} is another")


def initial_weights(config: Config) -> dict[str, str]:
    """Return a digest of each tensor in the state of a newly built learner."""
    with default_dtype(torch.float64):
        state = learner_of(config).state_dict()
    return {
        name: sha256(value.numpy().tobytes()).hexdigest()
        for name, value in state.items()
        if torch.is_tensor(value)
    }


LAWS: tuple[Law, ...] = (goes_on_from_a_checkpoint, the_seed_makes_its_weights)
