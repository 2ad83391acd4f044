"""Encoders: pretrained or hand-made backbones that map raw images or texts to features.

A frozen encoder is no part of a learner: each example passes it once, an image at the encoder's own
size, and the learner sees the features (`algorithms.backbones.features`). A network that is not
frozen is an ordinary backbone, whose weights all tasks share.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from algorithms.backbones import Backbone
from algorithms.backbones.features import Features

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preparation:
    """What an image goes through before it enters a network.

    Its shorter side is scaled to ``size / crop`` pixels, the central square of ``size`` pixels is
    cut out, and colours in 0..1 are normalised: (x - mean) / std.
    """

    size: int = 224
    crop: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def square(self, image: Image.Image) -> Tensor:
        """Return the central square of an image, uint8 [3, size, size]."""
        image = image if image.mode == "RGB" else image.convert("RGB")
        edge = min(image.size) * self.crop
        left, top = (image.width - edge) / 2, (image.height - edge) / 2
        how = Image.Resampling[self.interpolation.upper()]
        box = (left, top, left + edge, top + edge)
        pixels = np.asarray(image.resize((self.size, self.size), how, box))
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def resized(self, images: Tensor) -> Tensor:
        """Return images in 0..1 [B, C, H, W] as [B, 3, size, size], whole, differentiably."""
        images = images.expand(-1, 3, -1, -1)
        if images.shape[-2:] == (self.size, self.size):
            return images
        size = (self.size, self.size)
        return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)

    def normalized(self, images: Tensor) -> Tensor:
        """Return images in 0..1 with normalised colours."""
        mean, std = (images.new_tensor(each)[:, None, None] for each in (self.mean, self.std))
        return (images - mean) / std


class Encoder(Backbone):
    """A backbone from images, or texts, to features that can encode each example once, on its own.

    ``digest`` identifies weights and preparation: encoders with equal digests give equal features.
    ``pretrained`` says what was trained, on what, and under which licence; None if nothing was.
    """

    supports_weights_per_task = False

    frozen: bool = True
    """Whether examples are encoded once, and the learner sees the features alone."""

    batch_size: ClassVar[int] = 16
    """Examples that are encoded together; of images few, so that they stay in a CPU's cache."""

    dtype: ClassVar[torch.dtype] = torch.float16
    """Of the features that are kept."""

    digest: str
    pretrained: str | None = None

    def check_digest(self, digest: str | None) -> None:
        """Raise ValueError if the digest does not begin as it should."""
        if digest and not self.digest.startswith(digest):
            raise ValueError(
                f"its weights or their preparation are others than asked for: their digest is "
                f"{self.digest[:16]}, not {digest}"
            )

    def prepare(self, example: Any) -> Tensor:
        """Return an image (of Pillow) or a text as `encode` takes it, without the batch axis.

        This runs in threads.
        """
        raise NotImplementedError

    def encode(self, prepared: Tensor) -> Tensor:
        """Return features [B, ``num_features``] of prepared examples [B, ...]."""
        raise NotImplementedError

    def backbone(self, adapts: bool) -> Backbone:
        """Return the backbone of a learner that sees the features; ``adapts`` if it is trained."""
        return Features(self.num_features, adapts=adapts)


class Source(NamedTuple):
    """What a library says of a pretrained network; None where it says nothing."""

    preparation: Preparation
    trained_on: str | None
    license: str | None


class PretrainedNetwork(Encoder):
    """A network of a library, without its classifier; its features are those before it.

    ``weights`` is a file; without one, they come from the library's cache or hub. ``digest`` is what
    the digest must begin with. ``trained_on`` and ``license`` are as the library states them for its
    own weights, unless they are given.

    Raises:
        ValueError: The library is not installed, does not know the model or has no weights of it, or
            the file does not fit.
    """

    library: ClassVar[str]

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        model: str,
        weights: str | None = None,
        frozen: bool = True,
        digest: str | None = None,
        trained_on: str | None = None,
        license: str | None = None,
    ) -> None:
        super().__init__()
        try:
            self.check_model(model)
        except ImportError:
            raise ValueError(
                f"{self.library} is not installed: pip install '.[pretrained]' in a clone of this project"
            ) from None
        try:
            network = self.create(model, pretrained=not weights)
        except Exception as error:  # no network, or no weights there
            file, suffix = self.file_of(model)
            raise ValueError(
                "its weights are not in the cache of this machine and cannot be downloaded "
                f"({type(error).__name__}): put {file} into data_root as weights/{model}{suffix}, or "
                "name it with backbone.weights=FILE"
            ) from None
        source = self.source_of(model, network)
        if weights:
            load_weights(network, weights)
        else:
            trained_on, license = trained_on or source.trained_on, license or source.license
        self.preparation = source.preparation
        self.remove_head(network)
        self.network = network.to(memory_format=torch.channels_last).eval()
        size = self.preparation.size
        with torch.no_grad():
            self.num_features = int(self.network(torch.zeros(1, 3, size, size)).shape[1])
        self.frozen = frozen
        name = f"{self.library} {model}"
        found = digest_of(self.network.state_dict())
        self.digest = hashlib.sha256(f"{name} {found} {self.preparation}".encode()).hexdigest()
        self.pretrained = description(name, found, trained_on, license)
        self.check_digest(digest)

    def check_model(self, model: str) -> None:
        """Raise ValueError if the library does not know a model, ImportError if there is none."""
        raise NotImplementedError

    def create(self, model: str, pretrained: bool) -> nn.Module:
        """Return a network with its classifier; raise anything if its weights cannot be had."""
        raise NotImplementedError

    def file_of(self, model: str) -> tuple[str, str]:
        """Return what the library's file of weights is called, and the suffix it has to keep."""
        raise NotImplementedError

    def source_of(self, model: str, network: nn.Module) -> Source:
        """Return what the library says of a network."""
        raise NotImplementedError

    def remove_head(self, network: nn.Module) -> None:
        """Replace the classifier by the identity."""
        raise NotImplementedError

    def prepare(self, example: Image.Image) -> Tensor:
        """Return the central square of an image, uint8 [3, size, size]."""
        return self.preparation.square(example)

    def encode(self, prepared: Tensor) -> Tensor:
        """Return features [B, F] of uint8 images [B, 3, size, size]."""
        result: Tensor = self.network(self.preparation.normalized(prepared.float() / 255))
        return result

    def forward(self, x: Tensor, stats_from: int | None = None) -> Tensor:
        """Return the features of images [T, B, C, H, W] in 0..1, resized to the network's size."""
        with self.autocast(x):
            images = self.preparation.normalized(self.preparation.resized(x.flatten(0, 1)))
            features: Tensor = self.network(images)
        result: Tensor = features.to(x.dtype).unflatten(0, x.shape[:2])
        return result


def description(name: str, weights: str, trained_on: str | None, license: str | None) -> str:
    """Return what a row says of pretrained weights."""
    return (
        f"{name}, trained on {trained_on or 'data that nobody stated'}, weights {weights[:16]}, "
        f"licence {license or 'not stated'}"
    )


def digest_of(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hexadecimal) of the values of a state dict, in its order."""
    digest = hashlib.sha256()
    for tensor in state.values():
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def load_weights(network: nn.Module, weights: str) -> None:
    """Load the weights in a file into a network: by name, or by order where names differ.

    ``weights`` is a file of safetensors, or of `torch.save` without code in it. Weights of another
    library may have other names in the same order: they fit if all shapes do.

    Raises:
        ValueError: The file cannot be read, or holds the weights of another network.
    """
    found = read_weights(weights)
    own = network.state_dict()
    if found.keys() != own.keys():
        shapes = [[each.shape for each in state.values()] for state in (found, own)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the weights in the file are those of another network: {len(found)} tensors, where "
                f"it has {len(own)}, or others in shape"
            )
        found = dict(zip(own, found.values(), strict=True))
    try:
        network.load_state_dict(found)
    except RuntimeError as error:
        first = str(error).split("\n\t")[1 if "\n\t" in str(error) else 0]
        raise ValueError(f"the weights in the file do not fit: {first}") from None


def read_weights(path: str) -> dict[str, Tensor]:
    """Return the state dict in a file; raise ValueError if there is none."""
    from safetensors.torch import load_file

    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"the file with the weights cannot be read ({error.strerror})") from None
    except Exception:  # both libraries raise anything on other bytes
        raise ValueError(
            "the file with the weights is neither of safetensors nor of torch.save without code in it"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError("the file with the weights holds no state dict")
    return state
