"""Finished runs, read again, whoever made them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from bench import cell as cells
from bench import config, tensors
from bench.compose import composed
from bench.mistake import Mistake
from bench.store import Store
from bench.usage import GROUPS, names


def stored(
    store: Store,
    name: str,
    folders: dict[str, str | None],
    places: Mapping[str, str] = MappingProxyType({}),
) -> cells.Cell:
    """The cell of a stored run; raises Mistake where its data or its options are no more.

    ``folders`` are its ``data_root`` and ``cache_dir``; ``places`` are where images of one's own are
    now, by option of the data set such as ``path``, of which a run keeps the last name alone.
    """
    command: dict[str, Any] = dict.fromkeys(config.OF_THE_COMMAND, False)
    command |= {"results_dir": str(store.root), "threads": None, "until": None, "floors": []}
    command |= {"tune": None, "logger": None}
    try:
        record = store.record(name) or {}
        options = config.Config.model_validate(
            {"tuned": None} | store.config(name) | command | folders
        )
        check_known(options)
        if options.stored()["dataset"] != options.dataset.model_dump():
            raise Mistake(f"{name} would look into other folders than data_root for its images.")
        if now := {key: at for key, at in places.items() if key in options.dataset.options}:
            dataset = options.dataset.model_dump() | now
            if dataset.get("label", "") is None:
                dataset["label"] = record["dataset"]  # which it took from the folder's name
            options = options.model_copy(update={"dataset": config.Code(**dataset)})
        cell = cells.check(options)
    except ValidationError as error:
        raise Mistake(f"{name} is of another version: {config.mistake(error)}") from None
    except (OSError, ValueError, TypeError) as error:
        raise Mistake(f"{name} cannot be read: {error}.") from None
    if cell.dataset.digest != record["data_digest"]:
        raise Mistake(
            f"{name} was trained on other data than {cell.dataset.name} is now (digest "
            f"{record['data_digest'][:8]}, now {cell.dataset.digest[:8]}); run it again."
        )
    return cell


def check_known(options: config.Config) -> None:
    """Raises Mistake when a configuration names other code than conf/ does: it may be a stranger's.

    The conf/ of an installed package of `bench.extensions` counts, too.
    """
    for group in GROUPS:
        code: config.Code = getattr(options, group)
        known = code.name in names(group)
        if not known or composed(f"{group}={code.name}")[group]["target"] != code.target:
            raise Mistake(
                f"{group} {code.name!r} would run {code.target!r}, which conf/{group}/ does not know; "
                "if it is of another package, install that."
            )


def parameters(store: Store, name: str) -> dict[str, Any]:
    """The chosen parameters of a finished run, on the CPU; raises Mistake when they cannot be read."""
    path = store.runs / name / "checkpoint.pt"
    if not path.exists():
        raise Mistake(f"{path} is missing: overwrite=true runs the cell again.")
    try:
        state = tensors.read(path)
    except (ValueError, OSError) as error:
        raise Mistake(f"{path} is damaged ({error}): overwrite=true runs the cell again.") from None
    if not isinstance(state, dict):
        raise Mistake(f"{path} holds no parameters: overwrite=true runs the cell again.")
    return state
