"""The learners of conf/algo: those with their own module, and presets of such modules."""

from pathlib import Path

from bench.config import groups
from bench.config.compose import composed
from bench.config.schema import Component

ALGORITHMS = Path(__file__).parent.parent / "algorithms"
RULES = [name for name in groups.names("algo") if (ALGORITHMS / f"{name}.py").exists()]
UNTRAINED = [
    name
    for name in groups.names("algo")
    if "/" not in name
    if not Component.model_validate(composed(f"algo={name}")["algo"]).resolve().trains_backbone
]
"""Heads, which take no steps."""
SETTINGS = [name for name in groups.names("algo") if name not in RULES]
ASKED = {
    "timm": ["backbone.model=resnet18"],
    "torchvision": ["backbone.model=resnet18"],
    "transformer": ["backbone.path=model"],
    "onnx": ["backbone.weights=network.onnx"],
    "run": ["backbone.path=results/runs/protonet-omniglot-5w1s-seed0-01234567"],
}
"""What a user has to say of a backbone."""
