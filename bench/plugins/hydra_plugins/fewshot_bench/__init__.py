"""What the suite adds to Hydra."""
