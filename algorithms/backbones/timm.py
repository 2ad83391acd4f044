"""Networks of timm (PyTorch Image Models), with pretrained weights."""

import socket
from typing import Any
from urllib.parse import urlsplit

from torch import nn

from algorithms.backbones.encoder import Preparation, PretrainedNetwork, Source


class Timm(PretrainedNetwork):
    """A network of timm, prepared for as timm states for the model."""

    library = "timm"

    def check_model(self, model: str) -> None:
        """Raise ValueError if timm does not know a model."""
        import timm

        if not timm.is_model(model):
            near = timm.list_models(f"*{model.split('.')[0]}*")[:3]
            hint = f", which has {', '.join(near)}" if near else ": timm.list_models() names them"
            raise ValueError(f"timm has no model {model!r}{hint}")

    def create(self, model: str, pretrained: bool) -> nn.Module:
        """Return a network of timm."""
        import timm

        if pretrained:
            use_the_cache_without_a_network()
        network: nn.Module = timm.create_model(model, pretrained=pretrained)
        return network

    def file_of(self, model: str) -> tuple[str, str]:
        """Return the file of the Hugging Face hub."""
        import timm

        source = getattr(timm.get_pretrained_cfg(model), "hf_hub_id", None) or "timm"
        return f"model.safetensors of the hub's {source}", ".safetensors"

    def source_of(self, model: str, network: Any) -> Source:
        """Return timm's configuration of the pretrained model."""
        from timm.data.config import resolve_model_data_config

        config: dict[str, Any] = resolve_model_data_config(network)
        preparation = Preparation(
            config["input_size"][-1],
            config["crop_pct"],
            config["interpolation"],
            config["mean"],
            config["std"],
        )
        stated = network.pretrained_cfg
        return Source(preparation, stated.get("tag"), stated.get("license"))

    def remove_head(self, network: Any) -> None:
        """Replace the classifier by the identity."""
        network.reset_classifier(0)


def use_the_cache_without_a_network() -> None:
    """Have the hub's client look into its cache alone where it would try for a minute in vain."""
    from huggingface_hub import constants

    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True
