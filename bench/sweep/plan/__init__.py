"""Estimate of a sweep's duration and energy, from measured rows."""
