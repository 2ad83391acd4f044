"""A fitted learner as one ONNX file, from pixels to probabilities."""

import json
import shutil
import tempfile
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.backbones.encoder import Preparation, PretrainedNetwork
from algorithms.backbones.onnx import Onnx
from algorithms.features import FeatureLearner
from bench.core.errors import UserError
from bench.runs.load import FewShot
from bench.runs.model import Texts

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference of a probability between ONNX Runtime and the learner."""


class Scale(nn.Module):
    """Pixels in 0..255 to what a network takes: shares, normalised if it is pretrained."""

    def __init__(self, preparation: Preparation | None) -> None:
        super().__init__()
        self.preparation = preparation

    def forward(self, pixels: Tensor) -> Tensor:
        """Return floats of uint8 pixels [B, C, H, W]."""
        shares = pixels.float() / 255
        return self.preparation.normalized(shares) if self.preparation else shares


class Labels(nn.Module):
    """What a fitted learner sees, to probabilities."""

    def __init__(self, learner: FeatureLearner, fitted: Any) -> None:
        super().__init__()
        self.learner, self.fitted = learner, fitted

    def forward(self, seen: Tensor) -> Tensor:
        """Return probabilities [B, N] of images [B, C, H, W] in 0..1, or of features [B, F]."""
        features = self.learner.backbone(seen[None])
        outputs = self.learner.classify(self.fitted, features)
        return self.learner.loss.predictions(outputs)[0]


@torch.no_grad()
def export(few: FewShot) -> tuple[bytes, float]:
    """Return a fitted learner as an ONNX file, and how far its probabilities are from the learner's.

    Raises:
        UserError: The learner or its backbone is no network with a head, the extra ``onnx`` is not
            installed, or ONNX Runtime gives other answers.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch writes the file with it
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed: pip install '.[onnx]' in a clone of this project."
        ) from None
    encoder = few.encoder
    if isinstance(few.inputs, Texts):
        raise UserError(f"{few.name} labels texts, and an ONNX file takes pixels.")
    if few.head is None:
        raise UserError(
            f"{few.name} adapts its network, or normalises it by the support set, so that there is no "
            "head to be written: choose a learner that fits a head to features, such as protonet or "
            "ridge."
        )
    labels = Labels(few.head, few.adapted).eval()
    facts: dict[str, Any] = {"classes": few.classes, "images": few.inputs.model_dump()}
    if isinstance(encoder, PretrainedNetwork | Onnx):
        facts["encoder"] = asdict(encoder.preparation)
    if encoder is None:
        whole = to_onnx(nn.Sequential(Scale(None), labels), few.prepared)
    elif isinstance(encoder, PretrainedNetwork):
        network = nn.Sequential(Scale(encoder.preparation), encoder.network, labels)
        whole = to_onnx(network, few.prepared)
    elif isinstance(encoder, Onnx):
        whole = joined(encoder, labels, few)
    else:
        raise UserError(
            "The features of its backbone are computed by other code than a network, which an ONNX file "
            "cannot hold: choose backbone=timm, torchvision or onnx, or a trained one."
        )
    onnx.helper.set_model_props(whole, {key: json.dumps(fact) for key, fact in facts.items()})
    content = whole.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(["probabilities"], {"pixels": few.prepared.numpy()})[0]
    wanted = few.probabilities(few.adapted, few.support[None])[0].numpy()
    difference = float(np.abs(found - wanted).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"ONNX Runtime gives other probabilities than the learner, by {difference:.1e}; a run with "
            "precision=fp32 may help."
        )
    return content, difference


def to_onnx(
    module: nn.Module,
    example: Tensor,
    source: str = "pixels",
    result: str = "probabilities",
    opset: int = OPSET,
) -> Any:
    """Return a module from ``source`` to ``result`` as an ONNX model, for a batch of any size."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.conv.fp32_precision
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision  # torch insists that both are the same
    try:
        program = torch.onnx.export(
            module.eval(),
            (example[:2],),
            input_names=[source],
            output_names=[result],
            opset_version=opset,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    finally:
        cudnn.conv.fp32_precision = before
    assert program is not None
    return program.model_proto


def joined(encoder: Onnx, labels: Labels, few: FewShot) -> Any:
    """Return the network in an ONNX file, between what scales pixels and what labels features."""
    import onnx
    from onnx import compose, version_converter

    with tempfile.TemporaryDirectory() as folder:
        # copied, as onnx reads no weights from a file that has several names on the disk
        copies = [shutil.copy(path, folder) for path in encoder.files]
        network = onnx.load(copies[0])
    opset = max(OPSET, *(each.version for each in network.opset_import if not each.domain))
    network = compose.add_prefix(version_converter.convert_version(network, opset), "network/")
    scale = to_onnx(Scale(encoder.preparation), few.prepared, "pixels", "scaled", opset)
    scale = compose.add_prefix(scale, "scale/", rename_inputs=False)
    head = to_onnx(labels, encoder.encode(few.prepared[:2]), "features", opset=opset)
    for model in (scale, network, head):
        model.ir_version = network.ir_version
    (source,), (features, *_) = network.graph.input, network.graph.output
    whole = compose.merge_models(scale, network, [("scale/scaled", source.name)])
    return compose.merge_models(whole, head, [(features.name, "features")])
