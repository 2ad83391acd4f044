"""Differentiable solvers of convex heads."""
