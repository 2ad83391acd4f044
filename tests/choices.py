"""The learners of conf/algo: those with their own module, and presets of such modules."""

from pathlib import Path

from bench.config import groups
from bench.config.compose import composed
from bench.config.schema import Component

ALGORITHMS = Path(__file__).parent.parent / "algorithms"
RULES = [name for name in groups.names("algo") if (ALGORITHMS / f"{name}.py").exists()]
CODE = {
    name: Component.model_validate(composed(f"algo={name}")["algo"]).resolve()
    for name in groups.names("algo")
    if "/" not in name
}
UNTRAINED = [name for name, code in CODE.items() if not code.trains_backbone]
"""Heads, which take no steps."""
OF_CLASSES = [
    name for name, code in CODE.items() if not (code.requires_targets or code.learns_by_acting)
]
"""Learners of tasks with classes; others are held to functions and trajectories of their own."""
SETTINGS = [name for name in groups.names("algo") if name not in RULES]
ASKED = {
    "timm": ["backbone.model=resnet18"],
    "torchvision": ["backbone.model=resnet18"],
    "transformer": ["backbone.path=model"],
    "onnx": ["backbone.weights=network.onnx"],
    "run": ["backbone.path=results/runs/protonet-omniglot-5w1s-seed0-01234567"],
}
"""What a user has to say of a backbone."""
