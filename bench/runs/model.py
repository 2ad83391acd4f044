"""What a trained learner is rebuilt from without its data set: ``model.json`` and its weights."""

import copy
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.backbones.encoder import Encoder
from algorithms.learner import Learner
from algorithms.nn.layers import BatchNorm2d
from bench.config.schema import Positive, Strict
from bench.core import serialization
from bench.core.atomic import Content, read_plain
from bench.core.errors import UserError
from bench.datasets.io import photos
from bench.engine.evaluate import to_float
from bench.runs.cell import Cell, outputs_of, training_classes
from bench.runs.store import MOST_BYTES, Store
from bench.tasks.base import TaskSource
from bench.tasks.pool import Resampling
from bench.tasks.texts import to_bytes

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
STATISTICS = "statistics."
"""What the names of averages begin with that are in that file beside the learner's own state."""
AVERAGES = ("running_mean", "running_var")
AVERAGED = 5
"""Training tasks that averages are over."""


class Images(Strict):
    """How the data set made an input of an image.

    Its central part was resampled to ``shape`` (C, H, W), grey if C is 1, and inverted if paper was
    brighter than ink. With a ``shape`` of None, an encoder takes the image as it is.
    """

    kind: ClassVar = "images"
    shape: tuple[Positive, Positive, Positive] | None
    resampling: Resampling
    inverted: bool

    def prepare(self, source: Any, encoder: Encoder | None) -> Tensor:
        """Return an image as the network takes it; raise UserError if it cannot be read.

        ``source`` is a file, a Pillow image or an array. The result is uint8 [C, H, W], or what the
        encoder makes of it.
        """
        side = max(self.shape[1:]) if self.shape else photos.ENCODED_SIDE
        picture = photos.opened(source, side, self.mode)
        if self.shape:
            pixels = self.pixels(picture)
            if not encoder:
                return torch.from_numpy(pixels.copy())
            picture = photos.to_image(pixels)
        assert encoder is not None
        return encoder.prepare(picture)

    def seen(self, prepared: Tensor) -> Tensor:
        """Return prepared images as a network without an encoder takes them, in 0..1."""
        return prepared.float() / 255

    @property
    def mode(self) -> str:
        """The mode of a Pillow image that an input is made of."""
        return "L" if self.shape and self.shape[0] == 1 else "RGB"

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Return an image of that `mode` as the data set had it, uint8 [C, H, W] of its shape."""
        assert self.shape is not None
        pixels = photos.middle(picture, self.shape[1:], self.resampling)
        # paper is what most of a drawing is
        return 255 - pixels if self.inverted and np.median(pixels) > 127 else pixels


class Texts(Strict):
    """How the data set made an input of a text: of its first ``length`` bytes.

    With a ``length`` of None, an encoder takes the text as it is.
    """

    kind: ClassVar = "texts"
    length: Positive | None

    def prepare(self, source: Any, encoder: Encoder | None) -> Tensor:
        """Return a text as the network takes it; raise UserError if it is none.

        The result is uint8 [``length``] with zeros behind the end, or what the encoder makes of it.
        """
        if not isinstance(source, str):
            raise UserError(
                f"{type(source).__name__} is no text, and this learner reads texts: give a list of str."
            )
        text = source.replace("\0", "").strip()
        if encoder:
            return encoder.prepare(text)
        assert self.length is not None
        row = to_bytes([text.encode()[: self.length].decode(errors="ignore")])[0]
        return nn.functional.pad(row, (0, self.length - len(row)))

    def seen(self, prepared: Tensor) -> Tensor:
        """Return prepared texts as a network without an encoder takes them, as they are."""
        return prepared


def inputs_of(encoder: Encoder) -> Images | Texts:
    """Return how an input is made of what an encoder takes as it is."""
    if encoder.reads_texts:
        return Texts(length=None)
    return Images(shape=None, resampling="lanczos", inverted=False)


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


def files(cell: Cell, learner: Learner, source: TaskSource) -> dict[str, Content]:
    """Return the files of a learner trained on tasks of ``source``, by name."""
    averages = {
        STATISTICS + key: each
        for key, each in (
            averages_of(learner, source) if cell.config.train.examples else {}
        ).items()
    }
    weights = serialization.to_safetensors(learner.state_dict() | averages)
    model = describe(cell, hashlib.sha256(weights).hexdigest())
    return {WEIGHTS: weights, DESCRIPTION: model.model_dump_json(indent=1) + "\n"}


def without_averages(network: nn.Module) -> dict[str, BatchNorm2d]:
    """Return the batch norms, by name, that have no running averages."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, BatchNorm2d) and module.running_mean is None
    }


def set_averages(network: nn.Module, averages: Mapping[str, Tensor]) -> bool:
    """Give all batch norms running averages, by their names; return whether there are such."""
    found = without_averages(network)
    if averages.keys() != {f"{name}.{key}" for name in found for key in AVERAGES}:
        return False
    for name, module in found.items():
        module.running_mean, module.running_var = (averages[f"{name}.{key}"] for key in AVERAGES)
        module.track_running_stats = True
    return True


@torch.no_grad()
def averages_of(learner: Learner, source: TaskSource) -> dict[str, Tensor]:
    """Return running averages for the backbone of a learner that does without them.

    They are means over a few training tasks, of the initial weights; see `set_averages`.
    """
    backbone = next((each for each in learner.modules() if isinstance(each, Backbone)), None)
    if backbone is None or not without_averages(backbone):
        return {}
    network = copy.deepcopy(backbone).eval()
    norms = without_averages(network)
    for module in norms.values():
        module.track_running_stats, module.momentum = True, None  # plain means over the tasks
        module.running_mean = torch.zeros_like(module.bias)
        module.running_var = torch.ones_like(module.weight)
        module.num_batches_tracked = torch.zeros((), dtype=torch.int64, device=module.bias.device)
        module.train()
    for number in range(AVERAGED):
        drawn = to_float(source.draw(number, 1))
        network(torch.cat([drawn.support_x.flatten(1, 2), drawn.query_x], 1))
    return {f"{name}.{key}": getattr(norms[name], key) for name in norms for key in AVERAGES}


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
