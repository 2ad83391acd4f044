"""Laws that every learner and data set must obey, and the command that checks them."""
