"""Fit one family."""
