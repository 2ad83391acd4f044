"""Data sets of robot control."""
