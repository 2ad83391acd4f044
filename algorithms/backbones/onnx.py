"""Frozen networks in ONNX files, run by ONNX Runtime."""

import hashlib
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from algorithms.backbones.encoder import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Encoder,
    Preparation,
    description,
)


class Onnx(Encoder):
    """A network from images [B, 3, H, W] to features [B, F] in an ONNX file; always frozen.

    The size of an image is that of the file's input, or ``size`` if that is open. ``crop``, ``mean``
    and ``std`` are how it was trained; see `Preparation`.

    Raises:
        ValueError: ONNX Runtime is not installed, or the file is no such network.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        weights: str,
        digest: str | None = None,
        size: int = 224,
        crop: float = 1.0,
        interpolation: str = "bilinear",
        mean: list[float] | None = None,
        std: list[float] | None = None,
        trained_on: str | None = None,
        license: str | None = None,
    ) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise ValueError(
                "onnxruntime is not installed: pip install '.[onnx]' in a clone of this project"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(
                weights, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            why = str(error).split("\n", 1)[0]
            raise ValueError(f"the ONNX file cannot be read ({why})") from None
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or len(outputs[0].shape) != 2:
            raise ValueError(
                f"the ONNX file maps {[each.shape for each in inputs]} to {outputs[0].shape}, where "
                "images [B, 3, H, W] to features [B, F] are needed"
            )
        self.source = inputs[0].name
        if isinstance(shape[0], int) and shape[0] != 1:
            raise ValueError(f"the ONNX file takes {shape[0]} images at once, no more and no fewer")
        self.one_by_one = shape[0] == 1
        if interpolation.upper() not in Image.Resampling.__members__:
            raise ValueError(f"there is no filter {interpolation!r}: bilinear or bicubic are usual")
        size = shape[2] if isinstance(shape[2], int) else size
        colours = tuple(mean or IMAGENET_MEAN), tuple(std or IMAGENET_STD)
        self.preparation = Preparation(size, crop, interpolation, *colours)
        self.num_features = int(outputs[0].shape[1])
        self.files = files_of(Path(weights))
        found = hashlib.sha256()
        for path in self.files:
            found.update(path.read_bytes())
        self.digest = hashlib.sha256(f"{found.hexdigest()} {self.preparation}".encode()).hexdigest()
        name = f"onnx {Path(weights).stem}"
        self.pretrained = description(name, found.hexdigest(), trained_on, license)
        self.check_digest(digest)

    def prepare(self, image: Image.Image) -> Tensor:
        """Return the central square of an image, uint8 [3, size, size]."""
        return self.preparation.square(image)

    def encode(self, prepared: Tensor) -> Tensor:
        """Return features [B, F] of uint8 images [B, 3, size, size]."""
        images = self.preparation.normalized(prepared.cpu().float() / 255)
        found = [
            torch.from_numpy(self.session.run(None, {self.source: each.numpy()})[0])
            for each in (images.split(1) if self.one_by_one else [images])
        ]
        return torch.cat(found)


def files_of(path: Path) -> list[Path]:
    """Return an ONNX file and those that hold its weights, if any do.

    Raises:
        ValueError: It names a file outside its folder.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    names = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if outside := [name for name in names if Path(name).name != name]:
        raise ValueError(f"the ONNX file names weights outside its folder, in {outside[0]}")
    return [path, *(path.parent / name for name in sorted(names))]
