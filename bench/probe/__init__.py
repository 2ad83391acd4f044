"""Trying trained learners under other conditions than they were tested under."""
