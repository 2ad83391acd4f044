"""Layers with weights per task, and the operators behind them."""
