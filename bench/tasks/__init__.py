"""Task types: how tasks are sampled and what counts as a correct solution."""
