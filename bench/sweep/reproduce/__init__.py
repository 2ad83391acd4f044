"""Reproduction of published cells, in order of value per hour."""
