"""Tests, and campaigns that run longer than tests."""
