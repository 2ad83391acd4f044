"""The arithmetic of convolutions and products of matrices: exact, or rounded for speed."""

import torch

from algorithms.backbones import Backbone
from algorithms.learner import Learner
from bench.config import Precision
from bench.mistake import Mistake


def check(precision: Precision, learner: Learner, device: torch.device) -> None:
    """Raises Mistake where the device has no such arithmetic, or the learner cannot bear it."""
    if precision == "tf32" and device.type != "cuda":
        raise Mistake(
            f"precision=tf32 is made by the tensor cores of NVIDIA GPUs, not by {device.type}; "
            "use precision=fp32, or bf16 for a first-order learner."
        )
    if precision == "bf16" and device.type == "mps":
        raise Mistake("precision=bf16 is not tested on mps; use precision=fp32.")
    if precision == "bf16" and learner.order == 2:
        raise Mistake(
            "precision=bf16 is too coarse for an outer gradient through inner gradients; "
            "use precision=fp32 or tf32, or a first-order learner (such as algo.second_order=false)."
        )


def use(precision: Precision, learner: Learner) -> None:
    """Let the learner's backbone, and the whole process on CUDA, have this precision.

    - ``fp32``: float32 throughout. Torch alone would round in convolutions on CUDA.
    - ``tf32``: CUDA rounds the factors of float32 products to 10 bits of fraction.
    - ``bf16``: the backbone rounds the factors of its products to bfloat16, 7 bits. Its weights and
      features, the head and the outer loop stay float32.
    """
    rounding = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = rounding
    torch.backends.cudnn.conv.fp32_precision = rounding  # type: ignore[attr-defined]
    for module in learner.modules():
        if isinstance(module, Backbone):
            module.rounds_to_bfloat16 = precision == "bf16"
