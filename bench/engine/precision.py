"""Precision of convolutions and matrix products: float32, TF32 or bfloat16."""

import torch

from algorithms.backbones import Backbone
from algorithms.learner import Learner
from bench.config.schema import Precision
from bench.core.errors import UserError


def validate(precision: Precision, learner: Learner, device: torch.device) -> None:
    """Raise UserError if the device or the learner does not support the precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UserError(
            f"precision=tf32 is made by the tensor cores of NVIDIA GPUs, not by {device.type}; "
            "use precision=fp32, or bf16 for a first-order learner."
        )
    if precision == "bf16" and device.type == "mps":
        raise UserError("precision=bf16 is not tested on mps; use precision=fp32.")
    if precision == "bf16" and learner.order == 2:
        raise UserError(
            "precision=bf16 is too coarse for an outer gradient through inner gradients; "
            "use precision=fp32 or tf32, or a first-order learner (such as algo.second_order=false)."
        )


def apply(precision: Precision, learner: Learner) -> None:
    """Set the precision of the learner's backbone and, on CUDA, of the whole process.

    - ``fp32``: float32 throughout. Torch's default would round in convolutions on CUDA.
    - ``tf32``: CUDA rounds the factors of float32 products to a 10-bit mantissa.
    - ``bf16``: the backbone rounds the factors of its products to bfloat16, a 7-bit mantissa. Its
      weights and features, the head and the outer loop stay float32.
    """
    rounding = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = rounding
    torch.backends.cudnn.conv.fp32_precision = rounding  # type: ignore[attr-defined]
    for module in learner.modules():
        if isinstance(module, Backbone):
            module.use_bfloat16 = precision == "bf16"
