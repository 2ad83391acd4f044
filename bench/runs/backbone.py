"""The backbone of a finished run, frozen: heads are compared on a network of one's own."""

import hashlib

import torch
from PIL import Image
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.backbones.encoder import Encoder, digest_of
from bench.core.errors import UserError
from bench.datasets.io import photos
from bench.runs.model import set_averages, without_averages
from bench.runs.reload import describe, find_run, rebuild, statistics
from bench.runs.store import Store


class StoredBackbone(Encoder):
    """The trained backbone of a run, from images prepared as in that run; its data may be gone.

    ``path`` is the folder of the run.

    Raises:
        UserError: The run cannot be read, or has no backbone that encodes each image on its own.
    """

    def __init__(
        self, input_shape: tuple[int, ...], *, path: str, digest: str | None = None
    ) -> None:
        super().__init__()
        store, name = find_run(path, Store("results"))
        run = describe(store, name)
        config, images = run.config, run.model.images
        if images is None:
            raise UserError(f"{name} learned on texts, and backbone=run is for images.")
        if len(run.model.input_shape) != 3:
            raise UserError(
                f"{name} has no backbone of its own, but learned on features of "
                f"{config.backbone.name}: choose backbone={config.backbone.name}, as that run did."
            )
        learner = rebuild(run, None)
        network = next((each for each in learner.modules() if isinstance(each, Backbone)), None)
        if network is None or not config.train.examples:
            raise UserError(
                f"{name} has trained no backbone: name a run that has, such as one of protonet or maml "
                "with backbone=conv4."
            )
        if without_averages(network) and not set_averages(network, statistics(store, name)):
            raise UserError(
                f"{name} normalises images by those of their task, and no averages are stored that an "
                "image on its own could be normalised by: overwrite=true runs the cell again."
            )
        self.network = network.eval()
        self.images = images
        self.num_features = network.num_features
        found = digest_of(network.state_dict())
        facts = config.identity()["backbone"], config.precision, images, found
        self.digest = hashlib.sha256(repr(facts).encode()).hexdigest()
        self.pretrained = (
            f"{config.algo.name} on {run.dataset}, trained on its {config.train.split} classes, "
            f"run {name}, weights {found[:16]}"
        )
        self.check_digest(digest)

    def prepare(self, image: Image.Image) -> Tensor:
        """Return an image as the run had it, uint8 [C, H, W]."""
        return torch.from_numpy(self.images.pixels(photos.flat(image, self.images.mode)).copy())

    def encode(self, prepared: Tensor) -> Tensor:
        """Return features [B, F] of uint8 images [B, C, H, W]."""
        features: Tensor = self.network(prepared[None].float() / 255)[0]
        return features.float()
