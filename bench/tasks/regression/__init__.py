"""Few-shot regression."""
