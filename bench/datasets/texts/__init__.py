"""Text data sets, one file each."""
