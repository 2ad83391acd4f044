"""What conf/ makes of overrides, such as the named experiments."""

from functools import cache
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from bench.usage import CONF


@cache
def composed(*overrides: str) -> Any:
    """The configuration of a cell, such as that of ``experiment=paper/omniglot_maml_5w1s``.

    Works while Hydra runs a cell, too.
    """
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return OmegaConf.to_container(hydra.compose("config", list(overrides)), resolve=True)
    finally:
        GlobalHydra.instance().hydra = running
