"""Loading of finished runs, including untrusted ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError
from torch import Tensor

from algorithms.backbones.encoder import Encoder
from algorithms.learner import Learner
from bench.config import schema
from bench.config.compose import composed
from bench.config.groups import GROUPS, names
from bench.core import serialization
from bench.core.errors import UserError
from bench.engine import precision
from bench.runs import cell as cells
from bench.runs import model
from bench.runs.store import Store
from bench.tasks.classification.domain import Classification


def load_cell(
    store: Store,
    name: str,
    folders: dict[str, str | None],
    places: Mapping[str, str] = MappingProxyType({}),
) -> cells.Cell:
    """Return the cell of a stored run.

    Args:
        store: The results folder.
        name: The name of the run.
        folders: Its ``data_root`` and ``cache_dir``.
        places: Current locations of the user's own images, by option of the data set such as ``path``,
            of which a run stores only the last path component.

    Raises:
        UserError: The run cannot be read, or its data or options no longer exist.
    """
    with readable(name):
        record = store.record(name) or {}
        options = stored_configuration(store, name, folders)
        if options.stored()["dataset"] != options.dataset.model_dump():
            raise UserError(f"{name} would look into other folders than data_root for its images.")
        if now := {key: at for key, at in places.items() if key in options.dataset.options}:
            dataset = options.dataset.model_dump() | now
            if dataset.get("label", "") is None:
                dataset["label"] = record["dataset"]  # its default was the folder's name
            options = options.model_copy(update={"dataset": schema.Component(**dataset)})
        cell = cells.check(options)
    if cell.dataset.digest != record["data_digest"]:
        raise UserError(
            f"{name} was trained on other data than {cell.dataset.name} is now (digest "
            f"{record['data_digest'][:8]}, now {cell.dataset.digest[:8]}); run it again."
        )
    return cell


def stored_configuration(
    store: Store, name: str, folders: Mapping[str, str | None]
) -> schema.Config:
    """Return the configuration of a stored run, for `readable`; ``folders`` as in `load_cell`.

    Raises:
        UserError: It names code that conf/ does not know.
        ValueError, OSError, TypeError: It cannot be read.
    """
    command: dict[str, Any] = dict.fromkeys(schema.RUNTIME_KEYS, False)
    command |= {"results_dir": str(store.root), "threads": None, "until": None, "floors": []}
    command |= {"tune": None, "logger": None}
    options = schema.Config.model_validate({"tuned": None} | store.config(name) | command | folders)
    check_known(options)
    beside = store.runs / (schema.last_name(options.backbone.options.get("path")) or "")
    if "path" in options.backbone.options and (beside / "record.json").exists():
        backbone = schema.Component(**options.backbone.model_dump() | {"path": str(beside)})
        options = options.model_copy(update={"backbone": backbone})
    return options


class Description(NamedTuple):
    """What is stored of a run that labels images or texts, without its weights."""

    store: Store
    name: str
    dataset: str
    config: schema.Config
    model: model.Model


def describe(
    store: Store, name: str, folders: Mapping[str, str | None] = MappingProxyType({})
) -> Description:
    """Return the description of a stored run; ``folders`` as in `load_cell`.

    Raises:
        UserError: It cannot be read, or labels neither images nor texts.
    """
    folders = {"data_root": None, "cache_dir": None} | dict(folders)
    with readable(name):
        config = stored_configuration(store, name, folders)
        record = store.record(name) or {}
    facts = model.read(store, name)
    has_texts = getattr(config.backbone.resolve(), "reads_texts", False)
    if not (facts.images or has_texts) or not config.ways:
        raise UserError(
            f"{name} labels neither images nor texts: its data set has no such classes."
        )
    return Description(store, name, record["dataset"], config, facts)


def rebuild(run: Description, encoder: Encoder | None) -> Learner:
    """Return the trained learner of a run on the CPU, without its data set; raise UserError.

    With a frozen ``encoder``, the learner sees its features.
    """
    facts = run.model
    learner = cells.make_learner(
        run.config, Classification(), facts.outputs, facts.input_shape, encoder
    )
    try:
        learner.load_state_dict(parameters(run.store, run.name))
    except RuntimeError:
        raise UserError(
            f"{run.name}: {model.WEIGHTS} is that of another learner or backbone: overwrite=true runs "
            "the cell again."
        ) from None
    precision.apply(run.config.precision, learner)
    return learner


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Raise UserError if the files of a run turn out to be unreadable within the context."""
    try:
        yield
    except ValidationError as error:
        raise UserError(f"{name} is of another version: {schema.user_error(error)}") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{name} cannot be read: {error}.") from None


def find_run(run: str, store: Store) -> tuple[Store, str]:
    """Return the store and the name of a run, given as its folder or as its name in a store.

    Raises:
        UserError: It does not exist.
    """
    path = Path(run) if (Path(run) / "record.json").exists() else store.runs / run
    if not (path / "record.json").exists():
        raise UserError(
            f"There is no run {run}, neither here nor under {store.runs}: name the folder of one, such "
            "as results/runs/protonet-..."
        )
    return Store(path.resolve().parent.parent), path.resolve().name


def check_known(options: schema.Config) -> None:
    """Raise UserError if a configuration names other code than conf/ does, as it may be untrusted.

    The conf/ of an installed plug-in package (`bench.config.plugins`) counts as well.
    """
    for group in GROUPS:
        code: schema.Component = getattr(options, group)
        known = code.name in names(group)
        if not known or composed(f"{group}={code.name}")[group]["target"] != code.target:
            raise UserError(
                f"{group} {code.name!r} would run {code.target!r}, which conf/{group}/ does not know; "
                "if it is of another package, install that."
            )


def parameters(store: Store, name: str) -> dict[str, Tensor]:
    """Return the selected parameters of a finished run, on the CPU; raise UserError if unreadable."""
    found = tensors(store, name)
    return {key: each for key, each in found.items() if not key.startswith(model.STATISTICS)}


def statistics(store: Store, name: str) -> dict[str, Tensor]:
    """Return the averages of a finished run's backbone that its learner does without."""
    return {
        key.removeprefix(model.STATISTICS): each
        for key, each in tensors(store, name).items()
        if key.startswith(model.STATISTICS)
    }


def tensors(store: Store, name: str) -> dict[str, Tensor]:
    """Return all that is in the weights of a finished run, on the CPU; raise UserError."""
    path = store.runs / name / model.WEIGHTS
    sha256 = model.read(store, name).sha256
    if not path.exists():
        raise UserError(f"{path} is missing: overwrite=true runs the cell again.")
    try:
        return serialization.read_safetensors(path, sha256)
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} is damaged ({error}): overwrite=true runs the cell again."
        ) from None
