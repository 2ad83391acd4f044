"""Few-shot learners, their backbones and the layers and solvers they use."""

DISTRIBUTION = "fewshot-bench"
"""The distribution that this package is of: others are called algorithms, too."""
