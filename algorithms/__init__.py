"""Few-shot learners, their backbones and the layers and solvers they use."""
