"""Options that are left out in code are those of the file of its name in conf/."""

import inspect

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from bench.config import groups, schema
from bench.config.plugins import CONF
from tests.choices import ASKED, RULES

CHOICES = [("algo", name) for name in RULES]
CHOICES += [("backbone", name) for name in groups.names("backbone")]
OF_PAPERS = {
    "maml": {"test_inner_steps": 3},
    "reptile": {"test_inner_steps": 50, "inner_lr": 0.001, "inner_steps": 5, "inner_batch": 10},
}
"""What code leaves out as papers have it; in conf/ is what validation has found to be better."""


@pytest.mark.parametrize(("group", "name"), [(g, n) for g, n in CHOICES if "/" not in n])
def test_options_left_out_are_those_of_conf(group, name):
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        asked = ASKED.get(name, []) if group == "backbone" else []
        code = getattr(
            schema.from_hydra(hydra.compose("config", [f"{group}={name}", *asked])), group
        )
    parameters = inspect.signature(code.resolve()).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    needed = {option.partition("=")[0].partition(".")[2] for option in asked}
    assert {
        name for name, default in defaults.items() if default is inspect.Parameter.empty
    } == needed
    assert {name: default for name, default in defaults.items() if name not in needed} == {
        name: value
        for name, value in (code.options | OF_PAPERS.get(name, {})).items()
        if name not in needed
    }
