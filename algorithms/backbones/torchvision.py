"""Networks of torchvision, with pretrained weights."""

from typing import Any

from torch import nn

from algorithms.backbones.encoder import Preparation, PretrainedNetwork, Source

HEADS = ("fc", "classifier", "heads", "head")
"""Names of the last part of torchvision's classification networks."""


class Torchvision(PretrainedNetwork):
    """A classification network of torchvision, prepared for as its default weights are."""

    library = "torchvision"

    def check_model(self, model: str) -> None:
        """Raise ValueError if torchvision does not know a model."""
        from torchvision import models

        known = models.list_models(module=models)
        if model not in known:
            near = [name for name in known if model.split("_")[0] in name][:3]
            hint = f", which has {', '.join(near)}" if near else ""
            raise ValueError(f"torchvision has no classification model {model!r}{hint}")

    def create(self, model: str, pretrained: bool) -> nn.Module:
        """Return a network of torchvision."""
        from torchvision import models

        weights = default_weights(model) if pretrained else None
        network: nn.Module = models.get_model(model, weights=weights)
        return network

    def file_of(self, model: str) -> tuple[str, str]:
        """Return the file of torchvision's download."""
        return f"torchvision's {default_weights(model).url.rsplit('/', 1)[-1]}", ".pth"

    def source_of(self, model: str, network: nn.Module) -> Source:
        """Return the transforms of the default weights."""
        default = default_weights(model)
        transform = default.transforms()
        size = transform.crop_size[0]
        preparation = Preparation(
            size,
            size / transform.resize_size[0],
            transform.interpolation.value,
            tuple(transform.mean),
            tuple(transform.std),
        )
        return Source(preparation, f"ImageNet-1k ({default.name})", None)

    def remove_head(self, network: nn.Module) -> None:
        """Replace the classifier by the identity."""
        name = next((name for name in HEADS if hasattr(network, name)), None)
        if name is None:
            raise ValueError(
                f"{type(network).__name__} has none of {', '.join(HEADS)} to leave out"
            )
        setattr(network, name, nn.Identity())


def default_weights(model: str) -> Any:
    """Return torchvision's default weights of a model."""
    from torchvision import models

    return models.get_model_weights(model).DEFAULT
