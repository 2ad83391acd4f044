"""Hydra plugins of this suite."""
