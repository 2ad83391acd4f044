"""Training, evaluation and timing of one learner on one machine."""
