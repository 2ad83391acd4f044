"""The same in another process, where texts have other hashes."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in another process, with another hash seed."""
    seed = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "1" if seed != "1" else "2"
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
            return processes.submit(function, *arguments).result()
    finally:
        os.environ.pop("PYTHONHASHSEED")
        if seed is not None:
            os.environ["PYTHONHASHSEED"] = seed
