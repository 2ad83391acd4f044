"""Laws of the construction of every learner. A law is a function of a configuration.

It builds the learner itself, in float64, for `laws.WAYS` ways and images of `laws.IMAGE`.
"""

import copy
from collections.abc import Callable
from hashlib import sha256

import torch

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


def learner_of(config: Config) -> Learner:
    """Return the learner of a configuration in float64, with initial running statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = config.backbone.resolve()(IMAGE, **config.backbone.options)
        result: Learner = config.algo.resolve()(backbone, WAYS, **config.algo.options).double()
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
