"""What a learner and a data set owe, and a command that tells whether they obey."""
