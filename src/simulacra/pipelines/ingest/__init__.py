"""Bring a dataset in and check it."""
