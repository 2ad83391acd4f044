"""Benchmark of few-shot learners on the same episodes."""
