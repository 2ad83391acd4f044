"""Networks of torchvision, with pretrained weights."""

from typing import Any

import torch
from torch import nn

from algorithms.backbones.encoder import Preparation, PretrainedNetwork, load_weights

HEADS = ("fc", "classifier", "heads", "head")
"""Names of the last part of torchvision's classification networks."""


class Torchvision(PretrainedNetwork):
    """A classification network of torchvision; its features are those before the classifier.

    ``weights`` is a file; without one, they are torchvision's default, from its cache or its
    download. ``digest`` is what the digest must begin with. Size, crop and normalisation are those
    that torchvision states for the default.

    Raises:
        ValueError: torchvision is not installed, does not know the model or cannot get its weights,
            or the file does not fit.
    """

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
        try:
            from torchvision import models
        except ImportError:
            raise ValueError(
                "torchvision is not installed: pip install '.[pretrained]' in a clone of this project"
            ) from None
        known = models.list_models(module=models)
        if model not in known:
            near = [name for name in known if model.split("_")[0] in name][:3]
            hint = f", which has {', '.join(near)}" if near else ""
            raise ValueError(f"torchvision has no classification model {model!r}{hint}")
        default: Any = models.get_model_weights(model).DEFAULT
        try:
            network: Any = models.get_model(model, weights=None if weights else default)
        except Exception as error:
            raise ValueError(
                "its weights are not in the cache of this machine and cannot be downloaded "
                f"({type(error).__name__}): put torchvision's {default.url.rsplit('/', 1)[-1]} into "
                f"data_root as weights/{model}.pth, or name it with backbone.weights=FILE"
            ) from None
        if weights:
            load_weights(network, weights)
        else:
            trained_on = trained_on or f"ImageNet-1k ({default.name})"
        without_head(network)
        transform = default.transforms()
        size = transform.crop_size[0]
        preparation = Preparation(
            size,
            size / transform.resize_size[0],
            transform.interpolation.value,
            tuple(transform.mean),
            tuple(transform.std),
        )
        with torch.no_grad():
            width = network.eval()(torch.zeros(1, 3, size, size)).shape[1]
        name = f"torchvision {model}"
        super().__init__(network, preparation, width, name, frozen, trained_on, license)
        self.check_digest(digest)


def without_head(network: nn.Module) -> None:
    """Replace the classifier of a network by the identity; raise ValueError if it has none."""
    for name in HEADS:
        if hasattr(network, name):
            setattr(network, name, nn.Identity())
            return
    raise ValueError(f"{type(network).__name__} has none of {', '.join(HEADS)} to be left out")
