"""Run a learner of your own on the same episodes as all others: prototypes that are medians."""

from torch import Tensor

import bench
from algorithms.protonet import ProtoNet


class MedianNet(ProtoNet):
    """ProtoNet whose prototype is the median of the features of a class, not their mean."""

    def fit(self, features: Tensor, support_y: Tensor) -> Tensor:
        """Return the prototypes [T, N, F] of support features [T, N*K, F]."""
        return features.unflatten(1, support_y.shape[1:]).median(2).values


if __name__ == "__main__":
    result = bench.run(
        "algo=protonet",  # which the options and settings are taken from
        "algo.name=mediannet",
        "algo.target=own_learner.MedianNet",
        "backbone.filters=8",
        "train.examples=4000",
        dataset="glyphs",
        shots=5,
    )
    print(f"accuracy {result.score:.1f} ± {result.ci95:.1f} %")
