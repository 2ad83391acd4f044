"""Data sets: prepared once, checked for leaks, held as uint8 images."""
