"""Networks of timm (PyTorch Image Models), with pretrained weights."""

import socket
from typing import Any
from urllib.parse import urlsplit

from algorithms.backbones.encoder import Preparation, PretrainedNetwork, load_weights


class Timm(PretrainedNetwork):
    """A network of timm without its classifier; its features are those before it.

    ``weights`` is a file; without one, they come from timm's cache or the Hugging Face hub.
    ``digest`` is what the digest must begin with. Size, crop and normalisation are those that timm
    states for the model.

    Raises:
        ValueError: timm is not installed, does not know the model or has no weights of it, or the
            file does not fit.
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
            import timm
            from timm.data.config import resolve_model_data_config
        except ImportError:
            raise ValueError(
                "timm is not installed: pip install '.[pretrained]' in a clone of this project"
            ) from None
        if not timm.is_model(model):
            near = timm.list_models(f"*{model.split('.')[0]}*")[:3]
            hint = f", which has {', '.join(near)}" if near else ": timm.list_models() names them"
            raise ValueError(f"timm has no model {model!r}{hint}")
        try:
            if not weights:
                use_the_cache_without_a_network()
            network: Any = timm.create_model(model, pretrained=not weights)
        except Exception as error:  # no network, or no weights there
            source = getattr(timm.get_pretrained_cfg(model), "hf_hub_id", None) or "timm"
            raise ValueError(
                f"its weights are not in the cache of this machine and cannot be downloaded "
                f"({type(error).__name__}): put model.safetensors of the hub's {source} "
                f"into data_root as weights/{model}.safetensors, or name it with backbone.weights=FILE"
            ) from None
        config: dict[str, Any] = resolve_model_data_config(network)
        if weights:
            load_weights(network, weights)
        else:
            trained_on = trained_on or network.pretrained_cfg.get("tag")
            license = license or network.pretrained_cfg.get("license")
        network.reset_classifier(0)
        preparation = Preparation(
            config["input_size"][-1],
            config["crop_pct"],
            config["interpolation"],
            config["mean"],
            config["std"],
        )
        name = f"timm {model}"
        super().__init__(
            network, preparation, network.num_features, name, frozen, trained_on, license
        )
        self.check_digest(digest)


def use_the_cache_without_a_network() -> None:
    """Have the hub's client look into its cache alone where it would try for a minute in vain."""
    from huggingface_hub import constants

    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True
