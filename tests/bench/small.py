"""Cells that take no time."""

import importlib.util

from bench.migrate import CLIP_SINCE_5, TRAIN_SINCE_4

FILTERS = "backbone.filters=4"
"""The option of SMALL that other backbones lack."""

SMALL = [
    "dataset=glyphs",
    "train.images=480",
    FILTERS,
    "validation.times=2",
    "validation.episodes=10",
    "test.episodes=12",
    "throughput.seconds=0.01",
    "device=cpu",
    "floors=[]",
]

PLAIN = (
    TRAIN_SINCE_4
    | CLIP_SINCE_5
    | {
        "optimizer": "adam",
        "rate": 0.01,
        "schedule": "constant",
        "halving_steps": 1,
    }
)
"""The recipe of a `bench.config.Train` that has nothing special."""

# The runner treats all learners alike: some that differ most, and of the peers, which are slow, the
# fastest.
ALGOS = ["maml", "metaoptnet", "protonet", "reptile"]
ALGOS += ["learn2learn/protonet"] if importlib.util.find_spec("learn2learn") else []
