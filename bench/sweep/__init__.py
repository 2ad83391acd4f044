"""Sweeps of many cells: the Hydra callback, launchers, tuning, status, forecasts."""

import sys
from types import ModuleType

import bench


class _CallableModule(ModuleType):
    """This module, which may be called as the function `bench.sweep` that importing it hides."""

    __call__ = staticmethod(bench.sweep)


sys.modules[__name__].__class__ = _CallableModule
