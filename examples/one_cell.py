"""Train and test one learner, and look at its test episodes."""

import bench

result = bench.run("algo=protonet", "dataset=glyphs", "train.examples=4000", shots=5, seed=1)
print(f"accuracy {result.score:.1f} ± {result.ci95:.1f} %, stored in {result.folder}")
print(result.episodes.nsmallest(5, "score"))  # the hardest ones
