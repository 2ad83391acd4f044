"""Downloading, reading, caching and splitting data."""
