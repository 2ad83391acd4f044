"""Compare two learners with one and five shots, over two seeds."""

import bench

rows = bench.sweep(
    "train.examples=4000",
    algo=["protonet", "nearest"],
    dataset="glyphs",
    shots=[1, 5],
    seed=range(2),
)
print(rows.pivot_table("score", index="algo", columns="shots", aggfunc=["mean", "std"]).round(1))
