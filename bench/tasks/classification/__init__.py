"""Few-shot classification: pools of images by class, and numbered episodes."""
