"""Features of a frozen encoder, computed once for each example of a data set and kept."""

import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
from bench.config.schema import WEIGHTS, Component
from bench.core.errors import UserError, with_location
from bench.datasets.io import photos
from bench.datasets.io.cache import DataDirs, warn_unkept
from bench.datasets.io.photos import parallel_map, to_image
from bench.tasks.pool import Dataset

GPU_BATCHES = 16
"""Batches that a GPU encodes at once."""
TEXTS = "texts"
"""In place of a split: all texts of a data set, each once."""
SUFFIX = {torch.float16: ".f16", torch.int16: ".i16"}
"""Of files of features, by their type."""
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
    """Return the backbone of a choice, with the file or folder of its weights found.

    Without a name of the file, those of the model are looked for in ``weights`` of the data folders.

    Raises:
        UserError: If that file is nowhere.
        Exception: Whatever the code of the backbone raises.
    """
    options = dict(code.options)
    for key in WEIGHTS & options.keys():
        options[key] = options[key] and str(find_weights(key, options[key], folders))
    if "model" in options and not options["weights"]:
        names = (f"weights/{options['model']}{suffix}" for suffix in SUFFIXES)
        found = next(filter(None, map(folders.find, names)), None)
        options["weights"] = found and str(found)
    backbone: Backbone = code.resolve()(input_shape, **options)
    return backbone


def find_weights(key: str, name: str, folders: DataDirs) -> Path:
    """Return the file or folder of weights, here or in the data folders; raise UserError without it.

    ``key`` is the option that names it: ``weights`` a file, ``path`` a folder.
    """
    given = Path(name).expanduser()
    kind = "folder" if key == "path" else "file"
    if given.is_dir() if kind == "folder" else given.is_file():
        return given
    if found := folders.find(name):
        return found
    raise UserError(
        f"There is no {kind} {name}, neither here nor in {folders.archives}; say where the weights are "
        f"with backbone.{key}={kind.upper()}."
    )


@dataclass(frozen=True)
class CachedFeatures:
    """Features of a data set, [M, F] for each split, computed when they are first needed.

    They are kept under ``folder``, one file for each encoder and split, or for all texts of a data
    set, which are encoded once whatever their splits. A killed process loses seconds of work.
    """

    dataset: Dataset
    encoder: Encoder
    folder: Path
    device: torch.device

    def features(self, split: str) -> Tensor:
        """Return the features [M, F] of all examples of a split.

        Raises:
            UserError: If an example has no finite features, or the disk is full.
        """
        if not self.dataset.has_texts:
            return self._kept(split, len(self.dataset.splits[split].inputs))
        texts, places = self._texts
        found = self._kept(TEXTS, len(texts))
        if self.encoder.dtype == torch.int16:  # tokens, and zeros behind the longest text
            found = found[:, : int(found.any(0).sum())]
        return found[places[split]]

    @cached_property
    def _texts(self) -> tuple[list[bytes], dict[str, Tensor]]:
        """The distinct texts of the data set, short ones first, and which of them each split has."""
        rows = {
            split: [row.tobytes().rstrip(b"\0") for row in pool.inputs.numpy()]
            for split, pool in self.dataset.splits.items()
        }
        texts = sorted(set().union(*rows.values()), key=lambda text: (len(text), text))
        place = {text: n for n, text in enumerate(texts)}
        return texts, {split: torch.tensor([place[t] for t in own]) for split, own in rows.items()}

    def _kept(self, part: str, total: int) -> Tensor:
        """Return the features of a split or of the texts, mapped from their file, which is made first."""
        suffix = SUFFIX[self.encoder.dtype]
        name = part if part == TEXTS else f"{self.dataset.name}-{part}"  # folds have the same texts
        path = self.folder / "features" / f"{name}-{self._key(part)}{suffix}"
        if not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(path.with_suffix(".lock")):
                    if not path.exists():  # another process may have made it meanwhile
                        self._make(path, part, total)
            except OSError as error:
                warn_unkept(f"the features of {self.dataset.name}", path.parent, error)
                with tempfile.TemporaryDirectory() as folder:  # a mapped file outlives its name
                    path = Path(folder) / f"features{suffix}"
                    self._make(path, part, total)
                    return self._read(path, total)
        return self._read(path, total)

    def _key(self, part: str) -> str:
        """Return a digest of all that features depend on: examples, weights, code and device."""
        facts: tuple[str, ...] = self.dataset.digest, self.dataset.original_digest
        if part == TEXTS:
            facts = (sha256(b"\0".join(self._texts[0])).hexdigest(),)
        facts += part, self.encoder.digest, self.device.type
        digest = sha256(repr(facts).encode())
        modules = [photos.__name__, *(each.__module__ for each in type(self.encoder).__mro__)]
        parts = (type(part).__module__ for part in self.encoder.modules())
        modules += [name for name in parts if name.startswith("algorithms.")]
        for module in dict.fromkeys(modules):
            if file := getattr(sys.modules[module], "__file__", None):
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()[:16]

    def _read(self, path: Path, total: int) -> Tensor:
        shape = total, self.encoder.num_features
        if path.stat().st_size != 2 * math.prod(shape):
            raise UserError(f"{path} is damaged: delete it, and it is made anew.")
        kind = np.float16 if self.encoder.dtype == torch.float16 else np.int16
        return torch.from_numpy(np.memmap(path, kind, "c", shape=shape))

    def _make(self, path: Path, part: str, total: int) -> None:
        """Write the features of a split, going on where a killed process ended; raise OSError."""
        row = 2 * self.encoder.num_features
        draft = path.with_suffix(".part")
        draft.touch()
        with draft.open("r+b") as file:
            # whole batches alone, so that each example is encoded in the same company
            size = self.encoder.batch_size * (1 if self.device.type == "cpu" else GPU_BATCHES)
            done = min(draft.stat().st_size // (size * row) * size, total)
            file.truncate(done * row)
            file.seek(done * row)
            prepared = parallel_map(
                lambda n: self.encoder.prepare(self.example(part, n)),
                range(done, total),
                f"Features of {self.dataset.name}, {part}",
                total,
                done,
            )
            with torch.inference_mode(), exact_products():
                while batch := list(islice(prepared, size)):
                    found = self.encoder.encode(torch.stack(batch).to(self.device))
                    found = found.to(self.encoder.dtype)
                    if not found.isfinite().all():
                        raise UserError(
                            f"{self.dataset.name}: features of the {part} split are not finite in "
                            "float16; choose another backbone"
                        )
                    file.write(found.cpu().numpy().tobytes())
                    file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def example(self, part: str, index: int) -> Image.Image | str:
        """Return an example as the encoder takes it: the original image, or the text."""
        if part == TEXTS:
            return self._texts[0][index].decode(errors="ignore")
        if self.dataset.original:
            return self.dataset.original(part, index)
        return to_image(self.dataset.splits[part].inputs[index].numpy())


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
