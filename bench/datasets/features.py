"""Features of a frozen encoder, computed once for each image of a data set and kept."""

import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.backbones.encoder import Encoder
from bench.config.schema import Component
from bench.core.errors import UserError, with_location
from bench.datasets.io import photos
from bench.datasets.io.cache import DataDirs, warn_unkept
from bench.datasets.io.photos import parallel_map, to_image
from bench.tasks.pool import Dataset

GPU_BATCHES = 16
"""Batches that a GPU encodes at once."""
SUFFIXES = (".safetensors", ".pth", ".pt")
"""Of files of weights in data folders, ``weights/MODEL.safetensors`` and the like."""


@lru_cache(maxsize=4)  # consecutive cells of a sweep usually share the network
def encoder_of(chosen: str, folders: DataDirs, device: torch.device) -> Encoder | None:
    """Return the encoder of a backbone's choice, given as JSON, or None for an ordinary backbone.

    Raises:
        UserError: If its weights are missing or of another network.
    """
    code = Component.model_validate_json(chosen)
    target = code.resolve()
    if not (isinstance(target, type) and issubclass(target, Encoder)):
        return None
    try:
        encoder = make_backbone(code, (), folders)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{code.name}: {error}.") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"{code.name} cannot be made: {with_location(error)}.") from None
    assert isinstance(encoder, Encoder)
    return encoder.eval().requires_grad_(False).to(device)


def make_backbone(code: Component, input_shape: tuple[int, ...], folders: DataDirs) -> Backbone:
    """Return the backbone of a choice, with the file of its weights found.

    Without a name of the file, those of the model are looked for in ``weights`` of the data folders.

    Raises:
        UserError: If that file is nowhere.
        Exception: Whatever the code of the backbone raises.
    """
    options = dict(code.options)
    if options.get("weights"):
        options["weights"] = str(find_weights(options["weights"], folders))
    elif "model" in options:
        names = (f"weights/{options['model']}{suffix}" for suffix in SUFFIXES)
        found = next(filter(None, map(folders.find, names)), None)
        options["weights"] = found and str(found)
    backbone: Backbone = code.resolve()(input_shape, **options)
    return backbone


def find_weights(name: str, folders: DataDirs) -> Path:
    """Return the file of weights, here or in the data folders; raise UserError if it is nowhere."""
    given = Path(name).expanduser()
    if given.is_file():
        return given
    if found := folders.find(name):
        return found
    raise UserError(
        f"There is no file {name}, neither here nor in {folders.archives}; say where the weights are "
        "with backbone.weights=FILE."
    )


@dataclass(frozen=True)
class CachedFeatures:
    """Features of a data set, float16 [M, F] for each split, computed when they are first needed.

    They are kept under ``folder``, one file for each split, data and encoder. A killed process loses
    seconds of work.
    """

    dataset: Dataset
    encoder: Encoder
    folder: Path
    device: torch.device

    @property
    def num_features(self) -> int:
        """The number of features."""
        return self.encoder.num_features

    @property
    def pretrained(self) -> str | None:
        """What a row says of the encoder's weights."""
        return self.encoder.pretrained

    def features(self, split: str) -> Tensor:
        """Return the features [M, F] of all examples of a split, mapped from their file.

        Raises:
            UserError: If an image has no finite features, or the disk is full.
        """
        key = self._key(split)
        path = self.folder / "features" / f"{self.dataset.name}-{split}-{key}.f16"
        if not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(path.with_suffix(".lock")):
                    if not path.exists():  # another process may have made it meanwhile
                        self._make(path, split)
            except OSError as error:
                warn_unkept(f"the features of {self.dataset.name}", path.parent, error)
                with tempfile.TemporaryDirectory() as folder:  # a mapped file outlives its name
                    path = Path(folder) / "features.f16"
                    self._make(path, split)
                    return self._read(path, split)
        return self._read(path, split)

    def _key(self, split: str) -> str:
        """Return a digest of all that features depend on: images, weights, code and device."""
        facts = self.dataset.digest, self.dataset.original_digest, split, self.encoder.digest
        digest = sha256(repr((*facts, self.device.type)).encode())
        modules = [photos.__name__, *(each.__module__ for each in type(self.encoder).__mro__)]
        for module in dict.fromkeys(modules):
            if file := getattr(sys.modules[module], "__file__", None):
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()[:16]

    def _read(self, path: Path, split: str) -> Tensor:
        shape = len(self.dataset.splits[split].inputs), self.num_features
        if path.stat().st_size != 2 * math.prod(shape):
            raise UserError(f"{path} is damaged: delete it, and it is made anew.")
        return torch.from_numpy(np.memmap(path, np.float16, "c", shape=shape))

    def _make(self, path: Path, split: str) -> None:
        """Write the features of a split, going on where a killed process ended; raise OSError."""
        total, row = len(self.dataset.splits[split].inputs), 2 * self.num_features
        draft = path.with_suffix(".part")
        draft.touch()
        with draft.open("r+b") as file:
            # whole batches alone, so that each image is encoded in the same company
            size = self.encoder.batch_size * (1 if self.device.type == "cpu" else GPU_BATCHES)
            done = min(draft.stat().st_size // (size * row) * size, total)
            file.truncate(done * row)
            file.seek(done * row)
            label = f"Features of {self.dataset.name}, {split}"
            prepared = parallel_map(
                lambda n: self.encoder.prepare(self.image(split, n)),
                range(done, total),
                label,
                total,
                done,
            )
            with torch.inference_mode(), exact_products():
                while batch := list(islice(prepared, size)):
                    found = self.encoder.encode(torch.stack(batch).to(self.device)).half()
                    if not found.isfinite().all():
                        raise UserError(
                            f"{self.dataset.name}: features of the {split} split are not finite in "
                            "float16; choose another backbone"
                        )
                    file.write(found.cpu().numpy().tobytes())
                    file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def image(self, split: str, index: int) -> Image.Image:
        """Return the original image of an example."""
        if self.dataset.original:
            return self.dataset.original(split, index)
        return to_image(self.dataset.splits[split].inputs[index].numpy())


@contextmanager
def exact_products() -> Iterator[None]:
    """Have CUDA round no factors within the context, whatever the precision of the cell."""
    places = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
