"""A learner and a data set for fewshot-bench."""
