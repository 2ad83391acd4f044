"""Sweeps of many cells: the Hydra callback, launchers, tuning, status, forecasts."""
