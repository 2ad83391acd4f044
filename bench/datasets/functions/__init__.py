"""Data sets of functions, for few-shot regression."""
