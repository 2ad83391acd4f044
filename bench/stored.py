"""Finished runs, read again."""

from typing import Any

import torch
from pydantic import ValidationError

from bench import cell as cells
from bench import config
from bench.mistake import Mistake
from bench.store import Store


def stored(store: Store, name: str, folders: dict[str, str | None]) -> cells.Cell:
    """The cell of a stored run; raises Mistake where its data or its options are no more.

    ``folders`` are its ``data_root`` and ``cache_dir``.
    """
    record = store.record(name) or {}
    command = dict.fromkeys(config.OF_THE_COMMAND, False) | {"results_dir": str(store.root)}
    try:
        options = store.config(name) | command | folders
        cell = cells.check(config.Config.model_validate(options))
    except ValidationError as error:
        raise Mistake(f"{name} is of another version: {config.mistake(error)}") from None
    except (OSError, ValueError) as error:
        raise Mistake(f"{name} cannot be read: {error}.") from None
    if cell.dataset.digest != record["data_digest"]:
        raise Mistake(
            f"{name} was trained on other data than {cell.dataset.name} is now (digest "
            f"{record['data_digest'][:8]}, now {cell.dataset.digest[:8]}); run it again."
        )
    return cell


def parameters(store: Store, name: str) -> dict[str, Any]:
    """The chosen parameters of a finished run, on the CPU; raises Mistake when they cannot be read."""
    path = store.runs / name / "checkpoint.pt"
    if not path.exists():
        raise Mistake(f"{path} is missing: overwrite=true runs the cell again.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises whatever the bytes lead it to
        raise Mistake(f"{path} is damaged: overwrite=true runs the cell again.") from None
