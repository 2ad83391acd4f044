"""Composition of conf/ with overrides, such as named experiments."""

import copy
import re
from collections.abc import Mapping
from functools import cache
from numbers import Real
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from bench.config.plugins import CONF, conf_files

SEQUENCES = (list, tuple, range)


@cache
def composed(*overrides: str) -> Any:
    """Return the configuration of a cell, such as that of ``experiment=paper/omniglot_maml_5w1s``.

    This also works while Hydra runs a cell.
    """
    return OmegaConf.to_container(_composed(*overrides), resolve=True)


def configuration(overrides: list[str]) -> DictConfig:
    """Return the configuration as Hydra composes it, for the cells of a sweep.

    Raises what Hydra raises. The choices of files of conf/ are composed once for all cells that
    share them, which is most of the work; values such as ``seed=1`` are then set in a copy, in the
    order that Hydra itself uses.
    """
    groups = {file.partition("/")[0] for file in conf_files()}
    choices = [each for each in overrides if _chooses(each, groups)]
    config = copy.deepcopy(_composed(*choices))
    values = [each for each in overrides if each not in choices]
    parsed = OverridesParser.create().parse_overrides(values)
    ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
    return config


def overrides_from(options: Mapping[str, Any], swept: bool = False) -> list[str]:
    """Return the overrides of options given as Python values, such as ``train.lr=0.1``.

    With ``swept``, lists are what a sweep goes over, rather than values.
    """
    axes = {key for key, value in options.items() if swept and isinstance(value, SEQUENCES)}
    texts = {key: map(_text, each if key in axes else [each]) for key, each in options.items()}
    return [f"{key}={','.join(each)}" for key, each in texts.items()]


def _text(value: Any) -> str:
    """Return a value as Hydra reads it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, SEQUENCES):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, Real):
        return str(value)
    # backslashes are doubled where they would escape a quote
    quoted = re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + m[2].replace("'", "\\'"), str(value))
    return f"'{quoted}'"


def _chooses(override: str, groups: set[str]) -> bool:
    """Return whether an override chooses a file of conf/ or of Hydra, rather than a value."""
    key = override.partition("=")[0].lstrip("+~")
    return key in groups or "/" in key or "@" in key or key.startswith("hydra")


@cache
def _composed(*overrides: str) -> DictConfig:
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("config", list(overrides))
    finally:
        GlobalHydra.instance().hydra = running
