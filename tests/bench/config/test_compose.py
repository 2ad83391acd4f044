"""Configurations that are composed once for many cells are those of Hydra."""

import hydra
import pytest

from bench.config.compose import configuration
from bench.config.plugins import CONF


@pytest.mark.parametrize(
    "overrides",
    [
        ["algo=maml", "seed=3", "shots=5", "train.milestones=[0.5]", "ways=7", "+algo.extra=1"],
        ["experiment=paper/omniglot_maml_5w1s", "algo.inner_steps=2", "dataset.rotations=none"],
        ["tune=optuna", "algo=reptile", "tune.space.train.lr.low=0.01", "~algo.inner_lr"],
    ],
)
def test_a_configuration_is_that_of_hydra(overrides):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        whole, plain = (hydra.compose("config", each) for each in (overrides, overrides[:1]))
    # one after the other, so that no value of a cell could be that of the next
    assert configuration(overrides) == whole
    assert configuration(overrides[:1]) == plain
    assert configuration(overrides) == whole != plain


def test_cells_that_differ_in_values_are_composed_once(monkeypatch):
    configuration(["algo=maml", "seed=0"])
    monkeypatch.setattr(hydra, "compose", None)
    assert [configuration(["algo=maml", f"seed={n}"]).seed for n in range(3)] == [0, 1, 2]
