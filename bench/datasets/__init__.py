"""Data sets, and their input and output."""
