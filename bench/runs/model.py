"""What a trained learner is rebuilt from without its data set: ``model.json`` and its weights."""

import hashlib
from typing import Annotated

from pydantic import Field

from algorithms.learner import Learner
from bench.config.schema import Positive, Strict
from bench.core import serialization
from bench.core.atomic import Content, read_plain
from bench.core.errors import UserError
from bench.runs.cell import Cell, outputs_of, training_classes
from bench.runs.store import MOST_BYTES, Store
from bench.tasks.pool import Resampling

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"


class Images(Strict):
    """How the data set made an input of an image.

    Its central part was resampled to ``shape`` (C, H, W), grey if C is 1, and inverted if paper was
    brighter than ink. With a ``shape`` of None, an encoder takes the image as it is.
    """

    shape: tuple[Positive, Positive, Positive] | None
    resampling: Resampling
    inverted: bool


class Model(Strict):
    """The facts of a stored learner that neither its configuration nor its weights tell.

    ``outputs`` and ``input_shape`` are what it is made for, ``images`` is None if its inputs are no
    images, ``training_classes`` are the classes of its head if it is one of those, and ``sha256`` is
    the digest of the file with its weights.
    """

    outputs: Positive
    input_shape: tuple[Positive, ...]
    images: Images | None
    training_classes: list[str] | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def describe(cell: Cell, sha256: str) -> Model:
    """Return the facts of the learner of a cell."""
    config, dataset = cell.config, cell.dataset
    images = None
    if dataset.has_images:
        whole = dataset.encoding is not None and dataset.original is not None
        channels, height, width = dataset.splits["train"].inputs.shape[1:]
        images = Images(
            shape=None if whole else (channels, height, width),
            resampling=dataset.resampling,
            inverted=dataset.inverted,
        )
    has_head = getattr(config.algo.resolve(), "trains_classifier", False)
    return Model(
        outputs=outputs_of(config, dataset, cell.train_setting),
        input_shape=dataset.input_shape,
        images=images,
        training_classes=list(training_classes(config, dataset)) if has_head else None,
        sha256=sha256,
    )


def files(cell: Cell, learner: Learner) -> dict[str, Content]:
    """Return the files of a trained learner, by name."""
    weights = serialization.to_safetensors(learner.state_dict())
    model = describe(cell, hashlib.sha256(weights).hexdigest())
    return {WEIGHTS: weights, DESCRIPTION: model.model_dump_json(indent=1) + "\n"}


def read(store: Store, name: str) -> Model:
    """Return the facts of the learner of a finished run; raise UserError if unreadable."""
    path = store.runs / name / DESCRIPTION
    if not path.exists():
        raise UserError(f"{path} is missing: overwrite=true runs the cell again.")
    try:
        return Model.model_validate_json(read_plain(path, MOST_BYTES))
    except (ValueError, OSError) as error:  # pydantic's errors are ValueErrors
        why = str(error).split("\n", 1)[0]
        raise UserError(f"{path} is damaged ({why}): overwrite=true runs the cell again.") from None
