"""Foundations of all other packages: errors, files, signals, random numbers."""
