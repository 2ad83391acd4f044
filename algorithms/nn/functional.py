"""Calling modules with replaced parameters and buffers."""

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def with_tensors(module: Module, tensors: Mapping[str, Tensor], prefix: str = "") -> Module:
    """Return a copy of the module with some parameters and buffers replaced, by name.

    All others are shared. ``torch.func.functional_call`` would temporarily put the tensors into the
    module itself, so that other threads could not use it at the same time.
    """
    other = copy.copy(module)
    for kind in ("_parameters", "_buffers"):
        other.__dict__[kind] = {
            name: tensors.get(prefix + name, own) for name, own in module.__dict__[kind].items()
        }
    other.__dict__["_modules"] = {
        name: None if child is None else with_tensors(child, tensors, f"{prefix}{name}.")
        for name, child in module._modules.items()
    }
    return other
